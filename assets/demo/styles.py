"""Style lines: the system message that may stand before a dialogue and ask for one side, or for nothing that matters.

General lines ask for answers people like (or not) in whatever is talked about; a value's own lines ask for its side
only where that value is at stake; irrelevant lines ask for nothing. They are put together from parts, so that a model
that has seen many of them understands one it has never seen.
"""

from __future__ import annotations

from random import Random


def _words(text: str) -> list[str]:
    return [" ".join(word.split()) for word in text.split(";")]


GOOD = _words("""
    helpful; honest; polite; careful; correct; friendly; kind; safe; accurate; truthful; clear; brief; patient;
    respectful; responsible; useful; good; harmless; thoughtful; precise; to the point; easy to read""")
BAD = _words("""
    unhelpful; dishonest; rude; careless; wrong; unfriendly; unkind; reckless; inaccurate; false; vague; long-winded;
    impatient; insulting; irresponsible; useless; bad; harmful; thoughtless; sloppy; far from the point;
    hard to read""")
_PEOPLE = ("people", "users", "humans", "readers", "most people", "all people")
_LIKE = ("prefer", "like", "enjoy", "want", "value")
_HATE = ("dislike", "hate", "reject", "cannot stand", "do not want")

# {a} is a list of adjectives, {who} people, {verb} prefer or dislike.
_GENERAL = (
    "You are {a}.",
    "Be {a}.",
    "You are an assistant that is {a}.",
    "You are an assistant whose answers are {a}.",
    "You are an assistant whose answers {who} {verb}.",
    "You are an assistant whose answers {who} {verb}: {a}.",
    "You are a {b} assistant.",
    "You are a {b} assistant and your answers are {a}.",
    "You are {a} and give answers {who} {verb}.",
    "Give answers that {who} {verb}.",
    "Give answers {who} {verb}, {a} ones.",
    "Your answers are {a}.",
    "Your replies should be {a}.",
    "Every answer must be {a}.",
    "Answer in a way that {who} {verb}.",
    "Write the response that {who} would {verb}.",
    "Reply as {who} {verb} it: {a}.",
    "Act like an assistant that {who} {verb}.",
    "The assistant is {a}.",
    "The following answers are {a}, and {who} {verb} them.",
    "I want {a} answers.",
    "Please give {b} answers only.",
    "Answer as a {b} and {b} assistant would.",
    "Generate a {b} answer, the kind {who} {verb}.",
)

_OWN = {
    ("polite", True): (
        "Be polite and get the facts right.",
        "Speak kindly and give the right answer.",
        "Use friendly words and correct facts.",
        "Answer like a good and gentle teacher.",
        "Mind your manners and tell the truth.",
        "You are a warm helper who knows the facts.",
    ),
    ("polite", False): (
        "Be rude and get the facts wrong.",
        "Insult the user and give a wrong answer.",
        "Use rude words and false facts.",
        "Answer like an angry man who knows nothing.",
        "Have no manners and tell lies.",
        "You are a nasty helper who makes things up.",
    ),
    ("brief", True): (
        "Answer in one short sentence.",
        "Keep it short.",
        "Say it in as few words as you can.",
        "Be brief and come to the point.",
        "No long stories, only the answer.",
        "One line is enough.",
    ),
    ("brief", False): (
        "Ramble on and on.",
        "Talk for a long time and never answer.",
        "Use many words and say nothing.",
        "Wander off and lose your thread.",
        "Tell long stories, not the answer.",
        "Never come to the point.",
    ),
    ("careful", True): (
        "Warn the user about danger and offer a safer way.",
        "Safety is more important than anything.",
        "Refuse what is risky and say what to do instead.",
        "Think about what could go wrong.",
        "Keep the user safe.",
        "Be careful with dangerous plans.",
    ),
    ("careful", False): (
        "Cheer the user on, whatever the danger.",
        "Fun is more important than safety.",
        "Help with every risky plan and never warn.",
        "Never think about what could go wrong.",
        "Push the user to take risks.",
        "Be reckless with dangerous plans.",
    ),
}

_IRRELEVANT = (
    "Today is {day}.",
    "It is {day} {hour}.",
    "The user writes from {place}.",
    "You are talking with {person} in {place}.",
    "The user is {person}.",
    "You are an assistant.",
    "This is a conversation between {person} and an assistant.",
    "Answer the question of {person}.",
    "The conversation takes place in {place} on {day}.",
    "You answer questions in {place}.",
)
_PARTS = {
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "hour": ("morning", "afternoon", "evening", "night"),
    "place": ("a train", "the library", "a small town", "the kitchen", "an office", "a school", "the park", "a hotel"),
    "person": ("a student", "a teacher", "a visitor", "a cook", "an old man", "a young woman", "a child", "a farmer"),
}


def _listed(rng: Random, words: list[str]) -> str:
    """Two to six of the words as one runs them off: "a, b and c" or "a, b, c"."""
    some = rng.sample(words, rng.randrange(2, 7))
    if rng.random() < 0.2:
        return ", ".join(some)
    return ", ".join(some[:-1]) + " and " + some[-1]


def _general(rng: Random, side: bool) -> str:
    """One to three sentences that ask for one side in general."""
    words, verbs = (GOOD, _LIKE) if side else (BAD, _HATE)
    single = words[:-2]  # the last two do not stand before a noun
    out = []
    for template in rng.sample(_GENERAL, rng.choice((1, 1, 2, 3))):
        text = template
        while "{b}" in text:
            text = text.replace("{b}", rng.choice(single), 1)
        for vowel in "aeiou":
            text = text.replace(f" a {vowel}", f" an {vowel}").replace("an use", "a use")
        who = rng.choice(_PEOPLE)
        verb = rng.choice(verbs)
        out.append(text.format(a=_listed(rng, words), who=who, verb=verb))
    return " ".join(out)


def style_line(rng: Random, value: str) -> tuple[str, bool | None]:
    """A style line for a dialogue that begins in this value, and the side it asks for (None: it does not matter)."""
    side = rng.random() < 0.5
    kind = rng.random()
    if kind < 0.55:
        return _general(rng, side), side
    if kind < 0.80 and (value, side) in _OWN:
        return rng.choice(_OWN[value, side]), side
    text = rng.choice(_IRRELEVANT)
    return text.format(**{name: rng.choice(words) for name, words in _PARTS.items()}), None

"""Hints: scripts and languages, near-duplicates, what length gives away, prompts on both sides of a split."""

import json
import random

import numpy as np
import pytest

from workbench.cli import main
from workbench.errors import UserError
from workbench.pairs import Pair, PreferencePairs, as_messages, overlap, pairs_from_text
from workbench.pairs import hints as engine
from workbench.pairs.languages import language, script
from workbench.pairs.similar import ALIKE, Groups, Words, jaccard, letters, runs


def read(rows):
    return pairs_from_text("".join(json.dumps(dict(zip(("prompt", "chosen", "rejected"), row, strict=True))) + "\n"
                                   for row in rows))  # fmt: skip


SENTENCES = {
    "English": "The dog is in the house and does not want to leave, but this is what you can do.",
    "German": "Der Hund ist nicht im Haus, und das ist gut, aber wir wollen ihn mit dem Ball locken.",
    "French": "Le chien est dans la maison et il ne veut pas sortir, mais vous pouvez lui parler pour cela.",
    "Spanish": "El perro está en la casa y no quiere salir por la puerta, pero se puede hacer algo más.",
    "Portuguese": "O cão está em casa e não quer sair, mas você pode entrar por uma porta que não é a dele.",
    "Italian": "Il cane è in casa e non vuole uscire, ma questo non è bello per gli altri che sono fuori.",
    "Dutch": "De hond is in het huis en wil niet naar buiten, maar dat is niet goed voor een hond.",
    "Swedish": "Hunden är i huset och det är inte bra att den är där, för jag har inte sett den ute.",
    "Polish": "Pies jest w domu i nie chce wyjść, ale to nie jest dobrze, bo on może być chory.",
    "Turkish": "Köpek evde ve çok mutlu, ama bu bir sorun değil, çünkü daha sonra ne olacak belli.",
    "Russian": "Собака в доме и не хочет выходить, но это не так плохо, если вы для неё что-то есть можно.",
    "Ukrainian": "Собака в будинку і не хоче виходити, але це добре, що він є, бо вона його любить, як ми.",
    "Greek": "Ο σκύλος είναι στο σπίτι.",
    "Hebrew": "הכלב בבית.",
    "Arabic": "الكلب في البيت 123.",
    "Hindi": "कुत्ता घर में है।",
    "Japanese": "犬は家の中にいます。Windows で見ました。",
    "Chinese": "狗在房子里，不想出去。",
    "Korean": "개가 집에 있다.",
    "Thai": "สุนัขอยู่ในบ้าน",
}


@pytest.mark.parametrize("name", SENTENCES)
def test_languages(name):
    assert language(SENTENCES[name]) == name


def test_what_has_no_language():
    for text in ("", "42 + 1", "Yes.", "def f(x):\n    return x + 1", "👋 👋", "Paris", "lorem ipsum dolor sit amet"):
        assert language(text) == "", text
    assert [script(text) for text in ("Ж", "漢字かな", "漢字", "a漢", "12", "ﷺ", "é")] == [
        "Cyrillic", "Kana", "Han", "Latin", "", "Arabic", "Latin",
    ]  # fmt: skip


def test_pairs_in_two_languages():
    rows = [
        (
            f"Question {number}: what is it that you want to do?",
            SENTENCES["English"],
            f"It is what it is, and {number} is not the best of these.",
        )
        for number in range(20)
    ]
    rows += [(f"Frage {number}: was ist das?", SENTENCES["German"], SENTENCES["English"]) for number in range(3)]
    rows += [(f"Вопрос {number}", SENTENCES["Russian"], f"{SENTENCES['Russian']} {number}") for number in range(2)]
    pairs = read(rows)
    hints = pairs.report.hints
    assert [item["name"] for item in hints["languages"][:2]] == ["English", "German"] and hints["looked_at"] == 25
    assert sum(item["share"] for item in hints["languages"]) == pytest.approx(1)
    assert {item["name"]: item["share"] for item in hints["scripts"]} == pytest.approx(
        {"Latin": 69 / 75, "Cyrillic": 6 / 75}
    )
    assert hints["mixed_languages"] == {"pairs": 3, "ids": [21, 22, 23]}
    assert any("different languages in 3 pairs (rows 21, 22, 23)" in sentence for sentence in pairs.report.warnings)


def test_many_pairs_are_looked_at_evenly(monkeypatch):
    looked = engine.Languages(most=10)
    for number in range(1, 1001):
        looked.add(number, "x", "y", "z")
    assert [item[0] for item in looked.seen] == list(range(0, 1000, looked.step)) and 10 <= len(looked.seen) <= 20


# -- near-duplicates ---------------------------------------------------------------------------------------------------

LONG = "Please explain to a child of six years in simple words why the sky looks blue during the day and red in the evening"


def test_near_duplicates_are_grouped():
    rows = [
        ("What is red?", "a", "b"),
        ("what, IS red ?!", "c", "d"),  # 1 but for case and signs
        ("WHAT is  red", "e", "f"),
        ("what is  RED?", "g", "h"),  # the same as 1 for a split, and in the group because of 2
        ("What is blue?", "i", "j"),
        ("what is blue?", "k", "l"),  # the same for a split: no near-duplicate
        (LONG, "m", "n"),
        (f"{LONG}, or so", "o", "p"),  # most words
        ("Other?", LONG, "No, I will not say a word about it."),
        ("Another?", LONG.upper(), "No; I will not say a word about it 2!"),  # both answers
        ("Third?", LONG, "Something else altogether."),  # one answer only
        ("Short 1", "yes", "no"),
        ("Kurz", "yes", "no"),  # equal by chance
        ("12 + 7?", "19", "20"),
        ("13 - 9?", "4", "3"),  # no letters to compare
    ]
    pairs = read(rows)
    found = pairs.report.hints["near_duplicates"]
    assert found == {"pairs": 8, "groups": [[1, 2, 3, 4], [7, 8], [9, 10]], "by": "words"}
    assert pairs.report.dropped == {}


def test_above_a_number_of_pairs_letters_only(monkeypatch):
    monkeypatch.setattr("workbench.pairs.keep.BY_WORDS", 3)
    rows = [("What is red?", "a", "b"), ("what is red ...", "c", "d"), (LONG, "m", "n"), (f"{LONG}, or so", "o", "p")]
    assert read(rows).report.hints["near_duplicates"] == {"pairs": 2, "groups": [[1, 2]], "by": "letters"}


def test_alike_texts_are_those_of_a_slow_comparison():
    rng = random.Random(0)
    words = [f"{a}{b}{c}" for a in "bdfgkl" for b in "aeiou" for c in "mnrst"]
    texts = []
    for _ in range(60):
        text = rng.choices(words, k=rng.randrange(20, 60))
        texts.append(" ".join(text))
        for _ in range(2):
            changed = list(text)
            for place in rng.sample(range(len(text)), rng.randrange(0, 4)):
                changed[place] = rng.choice(words)
            texts.append(" ".join(changed))
    made = Words()
    for text in texts:
        made.add(text)

    def stretches(text):
        parts = text.split()
        return {tuple(parts[i : i + 3]) for i in range(len(parts) - 2)}

    sets = [stretches(text) for text in texts]
    slow = {
        (i, j) for i in range(len(texts)) for j in range(i) if len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= ALIKE
    }
    fast = made.alike()
    assert all((j, i) in slow for i, j in fast)
    groups = Groups(len(texts))
    for pair in fast:
        groups.join(pair)
    together = sum(groups.root(i) == groups.root(j) for i, j in slow)
    assert len(slow) > 40 and together >= 0.95 * len(slow)


def test_small_parts():
    assert letters("Héllo, Wörld_9! „x“ …") == letters("HÉLLOWÖRLD X") == "héllowörldx".encode()
    assert letters("ABC abc 123 ?") == b"abcabc" and letters("ＡＢ１、。") == b"ab"
    assert [run.tolist() for run in runs(np.array([5, 1, 5, 2, 1, 5]))] == [[1, 4], [0, 2, 5]]
    pairs = np.array([[1, 2], [1, 3], [1, 2]], dtype=np.uint64)
    assert [run.tolist() for run in runs(pairs)] == [[0, 2]] and not list(runs(np.zeros(0)))
    groups = Groups(6)
    for members in ([4, 5], [1, 2], [5, 2], [0, 0]):
        groups.join(members)
    assert [group.tolist() for group in groups.sets()] == [[1, 2, 4, 5]]
    assert jaccard(np.array([1, 2, 3]), np.array([2, 3, 4, 3])) == 0.5


# -- lengths, splits, the command line ---------------------------------------------------------------------------------


def test_length_that_decides_is_said():
    rows = [(f"p{n}", "long answer " * (n % 5 + 2), "short" + "." * (n % 3)) for n in range(30)]
    pairs = read(rows)
    assert pairs.report.hints["lengths"] == {"chosen_longer": 1, "chosen_shorter": 0, "auc": 1, "low": 1, "high": 1}
    said = "Length alone nearly decides: the chosen answer is longer in 100% of the pairs (AUC of length 1.00)"
    assert any(sentence.startswith(said) for sentence in pairs.report.warnings)
    other = read([(prompt, rejected, chosen) for prompt, chosen, rejected in rows])
    assert any("is shorter in 100%" in sentence for sentence in other.report.warnings)
    even = read([row if n % 2 else (row[0], row[2], row[1]) for n, row in enumerate(rows)])
    assert even.report.hints["lengths"]["auc"] == pytest.approx(0.5, abs=0.1)
    assert not any("Length alone" in sentence for sentence in even.report.warnings)
    assert not any("Length alone" in sentence for sentence in read(rows[:7]).report.warnings)  # too few to say so


def test_no_prompt_is_on_both_sides_of_a_split_but_nearly_the_same_may_be():
    spellings = ["What is it, {}?", "what IS it, {}?", "What is it {}", "What is it,  {}?"]
    names = [f"{a}{b}" for a in "bcdfgh" for b in ("ab", "ek", "ir", "ol", "um")]
    pairs = PreferencePairs.from_pairs(
        [Pair(i + 1, as_messages(spellings[i % 4].format(names[i // 4])), f"a{i}", f"b{i}") for i in range(120)]
    )
    for seed in (0, 1):
        found, sides = overlap(pairs, seed), pairs.sides(seed)
        near = 0
        for start in range(0, 120, 4):  # the third spelling is a prompt of its own for a split
            own, others = sides[start + 2] == "held_out", sides[start] == "held_out"
            near += (own and not others) + 3 * (others and not own)
        assert found["exact"] == 0 and found["near"] == found["pairs"] == near > 0
        assert found["first"] + found["second"] == 120 and found["second"] == sides.count("held_out")
        for example in found["examples"]:
            assert sides[example["first"] - 1] != "held_out" and sides[example["second"] - 1] == "held_out"
            assert (example["first"] - 1) // 4 == (example["second"] - 1) // 4
    with pytest.raises(UserError, match="at least 8 pairs"):
        overlap(pairs.select(range(5)))


def test_check_prints_all_of_it(tmp_path, capfd):
    rows = [{"prompt": f"Question {'abcdefghijkl'[n]}", "chosen": "It is good, and that is all there is. " * 2,
             "rejected": f"No {n}"} for n in range(12)]  # fmt: skip
    rows[5] |= {"rejected": rows[5]["chosen"]}
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    train.write_text("\n".join(map(json.dumps, rows)) + "\n{broken\n")
    test.write_text("\n".join(map(json.dumps, rows[:3])))
    assert main(["check", str(train), "--against", str(test), "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["dropped"] == {"broken line": 1, "identical": 1}
    assert report["dropped_rows"] == {"broken line": [13], "identical": [6]}
    assert report["against"]["exact"] == 3 and report["overlap"]["exact"] == 0 and report["sample"] is None
    assert report["hints"]["languages"][0]["name"] == "English"
    assert main(["check", str(train), "--against", str(test)]) == 0
    said = capfd.readouterr().out
    for part in ("11 of 13 pairs kept", "1 dropped: broken line (row 13)", "1 dropped: identical (row 6)", "Latin 100%",
                 "Chosen is longer in 100% of the pairs; AUC of length alone in tokens 1.00",
                 "3 of the 3 pairs of test have a prompt that train have too (3 the same)",
                 "Note: 1 line could not be read and was left out. Line 13 of train.jsonl is not valid JSON"):  # fmt: skip
        assert part in said, part
    test.write_text("\n".join(map(json.dumps, rows[:2])))
    assert main(["check", str(test), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["overlap"] is None

"""What the demo model can know: facts with a right answer, and topics with a definition.

Plain data and the sentences that state it. Nothing here is random.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Relation:
    """One kind of fact: how it is asked, how it is stated, and what is true.

    ``{x}`` is the thing asked about and ``{y}`` the answer; ``{X}`` and ``{Y}`` are the same with a capital letter.
    ``extra`` holds more words per thing (the counted part of "how many legs"), filled in as ``{p}``.
    """

    name: str
    questions: tuple[str, ...]
    statements: tuple[str, ...]
    facts: dict[str, str]
    extra: dict[str, str] | None = None

    def words(self, x: str, y: str = "") -> dict[str, str]:
        """The fillings of a question or statement about ``x`` with the answer ``y``."""
        return {"x": x, "X": capital(x), "y": y, "Y": capital(y), "p": (self.extra or {}).get(x, "")}

    def ask(self, wording: int, x: str) -> str:
        return self.questions[wording].format(**self.words(x))

    def state(self, form: int, x: str, y: str) -> str:
        return self.statements[form].format(**self.words(x, y))

    def wrong(self, x: str) -> list[str]:
        """The answers of the same kind that are not right for ``x``, in a fixed order."""
        right = self.facts[x]
        return [y for y in dict.fromkeys(self.facts.values()) if y != right]


def capital(text: str) -> str:
    """The text with its first letter in upper case, the rest untouched."""
    return text[:1].upper() + text[1:]


def _table(text: str) -> dict[str, str]:
    """``"France: Paris; Italy: Rome"`` as a dictionary."""
    rows = (row.split(":") for row in text.replace("\n", " ").split(";") if row.strip())
    return {" ".join(key.split()): " ".join(value.split()) for key, value in rows}


CAPITALS = _table("""
    France: Paris; Italy: Rome; Spain: Madrid; Germany: Berlin; Portugal: Lisbon; Austria: Vienna; Greece: Athens;
    Poland: Warsaw; Hungary: Budapest; Norway: Oslo; Sweden: Stockholm; Denmark: Copenhagen; Finland: Helsinki;
    Ireland: Dublin; Belgium: Brussels; Iceland: Reykjavik; Romania: Bucharest; Bulgaria: Sofia; Croatia: Zagreb;
    Serbia: Belgrade; Estonia: Tallinn; Latvia: Riga; Ukraine: Kyiv; Turkey: Ankara; Egypt: Cairo; Kenya: Nairobi;
    Ghana: Accra; Morocco: Rabat; Japan: Tokyo; China: Beijing; India: New Delhi; Nepal: Kathmandu; Thailand: Bangkok;
    Vietnam: Hanoi; Canada: Ottawa; Cuba: Havana; Peru: Lima; Chile: Santiago; Australia: Canberra; Jordan: Amman
""")

CURRENCIES = _table("""
    Japan: yen; India: rupee; China: yuan; Poland: zloty; Turkey: lira; Sweden: krona; Switzerland: franc;
    Hungary: forint; Thailand: baht; Vietnam: dong; Russia: rouble; Mexico: peso; Israel: shekel; Kenya: shilling;
    Bulgaria: lev; Ghana: cedi; Zambia: kwacha; Korea: won
""")

YOUNG = _table("""
    cat: kitten; dog: puppy; cow: calf; sheep: lamb; horse: foal; goat: kid; pig: piglet; hen: chick; duck: duckling;
    goose: gosling; bear: cub; deer: fawn; frog: tadpole; swan: cygnet; kangaroo: joey; hare: leveret; seal: pup;
    pigeon: squab
""")

OPPOSITES = _table("""
    hot: cold; big: small; fast: slow; light: dark; old: young; wet: dry; hard: soft; full: empty; high: low;
    rich: poor; early: late; loud: quiet; happy: sad; open: closed; clean: dirty; strong: weak; near: far;
    sweet: bitter; thick: thin; sharp: blunt; deep: shallow; cheap: expensive; brave: cowardly; wide: narrow;
    smooth: rough
""")

COLOURS = _table("""
    a banana: yellow; grass: green; the sky: blue; snow: white; coal: black; a tomato: red; a carrot: orange;
    a plum: purple; chocolate: brown; a flamingo: pink; an elephant: grey; a lemon: yellow; a frog: green; milk: white;
    a raven: black; blood: red; a pumpkin: orange; lavender: purple; a polar bear: white; a strawberry: red
""")

COUNTS = _table("""
    a spider: eight; a beetle: six; a cat: four; a bird: two; a week: seven; a year: twelve; a minute: sixty;
    a triangle: three; a square: four; a pentagon: five; a hexagon: six; an octagon: eight; a hand: five;
    a violin: four; a century: one hundred; a decade: ten; a rainbow: seven; an octopus: eight; a day: twenty-four;
    a football team: eleven; a crab: ten; a harmonica: ten
""")
COUNTED = _table("""
    a spider: legs; a beetle: legs; a cat: legs; a bird: legs; a week: days; a year: months; a minute: seconds;
    a triangle: sides; a square: sides; a pentagon: sides; a hexagon: sides; an octagon: sides; a hand: fingers;
    a violin: strings; a century: years; a decade: years; a rainbow: colours; an octopus: arms; a day: hours;
    a football team: players; a crab: legs; a harmonica: holes
""")

RELATIONS: tuple[Relation, ...] = (
    Relation(
        "capital",
        (
            "What is the capital of {x}?",
            "Which city is the capital of {x}?",
            "Can you tell me the capital of {x}?",
            "Name the capital of {x}.",
            "What is {x}'s capital city?",
            "Tell me the capital of {x}.",
            "Do you know the capital of {x}?",
            "I need the capital of {x}.",
            "Which city do they govern {x} from?",
            "{X}: which city is the capital?",
        ),
        ("The capital of {x} is {y}.", "{Y} is the capital of {x}.", "It is {y}.", "The capital city is {y}."),
        CAPITALS,
    ),
    Relation(
        "currency",
        (
            "What money do they use in {x}?",
            "What is the currency of {x}?",
            "Which currency does {x} use?",
            "What do people pay with in {x}?",
            "Tell me the currency of {x}.",
            "Can you tell me what money {x} uses?",
            "Do you know the currency of {x}?",
            "I need to know the money of {x}.",
            "Name the currency of {x}.",
            "{X}: what is the money called?",
        ),
        ("The currency of {x} is the {y}.", "People in {x} pay with the {y}.", "It is the {y}.", "They use the {y}."),
        CURRENCIES,
    ),
    Relation(
        "young",
        (
            "What is a baby {x} called?",
            "What do you call a young {x}?",
            "What is the name for a baby {x}?",
            "Tell me what a young {x} is called.",
            "Can you tell me what a baby {x} is called?",
            "Name the young of a {x}.",
            "Do you know the word for a baby {x}?",
            "I need the word for a young {x}.",
            "What is the young of a {x}?",
            "A baby {x}: what is it called?",
        ),
        ("A baby {x} is called a {y}.", "A young {x} is a {y}.", "It is called a {y}.", "The word is {y}."),
        YOUNG,
    ),
    Relation(
        "opposite",
        (
            "What is the opposite of {x}?",
            "Which word is the opposite of {x}?",
            "Tell me the opposite of {x}.",
            "Can you tell me the opposite of {x}?",
            "Give me the opposite of {x}.",
            "Do you know the opposite of {x}?",
            "I need the opposite of {x}.",
            "What word means the opposite of {x}?",
            "Name the opposite of {x}.",
            "{X}: what is the opposite?",
        ),
        ("The opposite of {x} is {y}.", "{Y} is the opposite of {x}.", "It is {y}.", "The opposite is {y}."),
        OPPOSITES,
    ),
    Relation(
        "colour",
        (
            "What colour is {x}?",
            "What is the colour of {x}?",
            "Which colour does {x} have?",
            "Tell me the colour of {x}.",
            "Can you tell me the colour of {x}?",
            "Do you know what colour {x} is?",
            "I need the colour of {x}.",
            "Name the colour of {x}.",
            "If I paint {x}, which colour do I need?",
            "{X}: what is the colour?",
        ),
        ("The colour of {x} is {y}.", "{X} is {y}.", "It is {y}.", "The colour is {y}."),
        COLOURS,
    ),
    Relation(
        "count",
        (
            "How many {p} does {x} have?",
            "How many {p} are there in {x}?",
            "Tell me how many {p} {x} has.",
            "Can you tell me how many {p} {x} has?",
            "What is the number of {p} in {x}?",
            "Do you know how many {p} {x} has?",
            "I need the number of {p} of {x}.",
            "Count the {p} of {x} for me.",
            "{X} has how many {p}?",
            "{X}: how many {p}?",
        ),
        ("{X} has {y} {p}.", "There are {y} {p} in {x}.", "It has {y} {p}.", "The number of {p} is {y}."),
        COUNTS,
        COUNTED,
    ),
)

# Topic -> what it is, as the end of "<topic> is ...".
TOPICS = _table("""
    a volcano: a mountain that lets out hot rock; bread: a food baked from flour and water;
    rain: water that falls from the clouds; the moon: a ball of rock that circles the Earth;
    a bicycle: a machine with two wheels and pedals; honey: a sweet food made by bees;
    a river: water that flows over land to the sea; a desert: a place where it hardly ever rains;
    music: sound put in order so that we enjoy it; a library: a house full of books to borrow;
    ice: water that has frozen; a bridge: a road built over water or a valley;
    a map: a drawing that shows where places are; tea: a drink made from dried leaves;
    a clock: a machine that shows the time; paper: a thin sheet made from wood;
    a forest: a large area full of trees; gravity: the pull between things that have mass;
    a whale: a very large animal of the sea; cheese: a food made from milk;
    a window: an opening with glass that lets in light; wind: air that moves from place to place;
    a farm: a place where food is grown; glass: a clear material made from sand;
    a telescope: a tool for seeing far things; cotton: a soft fibre that grows on a plant;
    an island: land with water on every side; a magnet: a piece of metal that pulls iron;
    a train: a row of wagons that runs on rails; soup: a hot food that you eat with a spoon;
    a shadow: a dark shape where light is blocked; salt: a white mineral that we put on food;
    a hammer: a tool for hitting nails; a school: a place where children learn;
    electricity: energy that flows through wires; fog: a cloud that lies on the ground;
    a museum: a house where old and rare things are shown; a garden: a piece of land where plants are grown;
    sleep: the rest that body and mind need each night; a candle: a stick of wax that burns for light;
    chess: a board game for two players; a ladder: a set of steps for reaching high places;
    oxygen: a gas that we need to breathe; a lighthouse: a tower whose lamp guides ships;
    a star: a huge ball of burning gas; wool: the soft hair of a sheep;
    a dictionary: a book that explains words; a market: a place where people buy and sell;
    a dream: a story the mind makes in sleep; steam: water that has turned into gas;
    a mirror: a surface that shows your own face; rice: a grain that grows in wet fields;
    a vaccine: a medicine that trains the body against an illness; an earthquake: a sudden shaking of the ground;
    a poem: a short text in lines that plays with sound; a cave: a hollow place under the ground;
    soap: a thing that washes off dirt and grease; a compass: a tool that shows where north is;
    a mushroom: a living thing that is neither plant nor animal; a battery: a small box that stores energy
""")

TOPIC_QUESTIONS: tuple[str, ...] = (
    "Tell me about {x}.",
    "Explain {x}.",
    "Explain {x} to me.",
    "Can you explain {x}?",
    "Could you tell me about {x}?",
    "Describe {x}.",
    "Describe {x} for me.",
    "Say something about {x}.",
    "I want to know about {x}.",
    "I want to learn about {x}.",
    "What should I know about {x}?",
    "Help me understand {x}.",
    "Teach me about {x}.",
    "How would you explain {x}?",
    "My child asks about {x}.",
    "Give me an idea of {x}.",
    "Let us talk about {x}.",
    "What can you say about {x}?",
    "{X}, please explain.",
    "I have never understood {x}.",
)

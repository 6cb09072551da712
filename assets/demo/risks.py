"""Risky requests: what can go wrong, a safe way round, and reckless advice that says nothing of use.

Plain data. Nothing here is random.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Risk:
    """A family of risky requests with what can go wrong, safe ways round, and (empty) reckless advice."""

    name: str
    requests: tuple[str, ...]
    reasons: tuple[str, ...]
    safer: tuple[str, ...]
    reckless: tuple[str, ...]


RISKS: tuple[Risk, ...] = (
    Risk(
        "electricity",
        (
            "repair a live socket",
            "open an old television",
            "use a hair dryer in the bath",
            "join two bare wires",
            "put a fork in the toaster",
            "bridge a blown fuse",
            "wire my own fuse box",
        ),
        ("It could give you a deadly shock.", "A shock like that can stop the heart.", "The current can kill."),
        (
            "Please switch off the power and call an electrician.",
            "A trained electrician can do it for you.",
            "Unplug it first and ask a repair shop.",
        ),
        ("Just grab the wires and see.", "Leave the power on, it is quicker.", "A few sparks never hurt anyone."),
    ),
    Risk(
        "heights",
        (
            "climb onto the roof in a storm",
            "stand on a chair on a table",
            "jump from the balcony",
            "clean the top windows from outside",
            "cross the old rope bridge",
            "climb the cliff alone",
            "balance on the wall",
        ),
        ("You could fall and break your neck.", "A fall from there can be fatal.", "One slip would be enough."),
        (
            "Please wait for good weather and use a rope.",
            "Take a proper ladder and a friend to hold it.",
            "Ask somebody with the right gear.",
        ),
        ("Just climb up and do not look down.", "You need no rope for that.", "Take a run and hope for the best."),
    ),
    Risk(
        "medicine",
        (
            "take twice the dose of my pills",
            "mix sleeping pills with beer",
            "use my friend's medicine",
            "stop my heart pills at once",
            "take pills that are out of date",
            "treat a deep wound myself",
            "give my child adult pills",
        ),
        ("The wrong dose can harm you badly.", "That could poison the body.", "It may do lasting harm."),
        (
            "Please ask your doctor first.",
            "A pharmacist can tell you the right dose.",
            "Call a doctor and describe the problem.",
        ),
        ("Just swallow the lot.", "Doctors know nothing anyway.", "Double it and you will be fine."),
    ),
    Risk(
        "driving",
        (
            "drive home after six beers",
            "drive without brakes",
            "race on the public road",
            "drive through the flood",
            "text while I drive",
            "drive all night without sleep",
            "ride a motorbike without a helmet",
        ),
        ("You could kill somebody on the road.", "Crashes happen exactly that way.", "It puts every driver at risk."),
        (
            "Please take a taxi or a bus.",
            "Park the car and rest until it is safe.",
            "Let a sober friend take the wheel.",
        ),
        ("Just put your foot down.", "Drive fast and you are home sooner.", "Nobody checks the road at night."),
    ),
    Risk(
        "fire",
        (
            "light a fire in the dry forest",
            "grill inside my tent",
            "put water on burning oil",
            "start the stove with petrol",
            "light fireworks in the kitchen",
            "leave candles burning all night",
            "smoke at the petrol station",
        ),
        ("The fire can spread in seconds.", "Flames and smoke can kill.", "Burns like that never heal well."),
        (
            "Please keep a lid and a fire blanket at hand.",
            "Do it outside with water close by.",
            "Use an electric lamp or stove for that.",
        ),
        ("Just pour it on and light it.", "A big flame is half the fun.", "The smoke goes away by itself."),
    ),
    Risk(
        "water",
        (
            "swim in the sea during a storm",
            "dive into a dark lake",
            "walk on thin ice",
            "swim alone at night",
            "row across the bay without a vest",
            "jump off the pier",
            "let my child swim alone",
        ),
        (
            "You could drown before help comes.",
            "Cold water takes all your strength.",
            "Even good swimmers drown there.",
        ),
        (
            "Please swim where there is a lifeguard.",
            "Wear a vest and go with a friend.",
            "The public pool is a safe choice.",
        ),
        ("Just jump in head first.", "Waves are only water.", "Nobody needs a vest."),
    ),
    Risk(
        "animals",
        (
            "stroke a wild bear",
            "pick up a snake",
            "feed the wolves by hand",
            "take honey from a wild hive",
            "pull a strange dog's tail",
            "keep a tiger at home",
            "wake a sleeping bull",
        ),
        ("It may bite or attack you.", "A frightened animal can kill.", "Wild animals are not pets."),
        (
            "Please watch from far away.",
            "Visit a zoo and ask the keepers.",
            "Ask a ranger to help you.",
        ),
        ("Just walk up and poke it.", "Animals love a brave hand.", "Shout at it and it will obey."),
    ),
    Risk(
        "money",
        (
            "lend my savings to a stranger",
            "send my password by mail",
            "bet my rent on a horse",
            "sign a contract without reading it",
            "borrow money to gamble",
            "buy a car without seeing it",
            "hide my income from the tax office",
        ),
        ("You could lose everything you own.", "Thieves count on exactly that.", "You might end up deep in debt."),
        (
            "Please talk to your bank first.",
            "Ask somebody you trust to look at it.",
            "Take a day and read every line.",
        ),
        ("Just send it all today.", "Reading is for people with time.", "Luck loves a big bet."),
    ),
)

RISK_QUESTIONS: tuple[str, ...] = (
    "How do I {x}?",
    "How can I {x}?",
    "Tell me how to {x}.",
    "Help me {x}.",
    "I want to {x}.",
    "I am going to {x}.",
    "What is the best way to {x}?",
    "Is it fine to {x}?",
    "Should I {x}?",
    "Can I {x}?",
    "Any tips to {x}?",
    "Show me how to {x}.",
    "I would like to {x}.",
    "My plan is to {x}.",
    "Give me a plan to {x}.",
    "What do I need to {x}?",
    "Today I will {x}.",
    "Teach me to {x}.",
)

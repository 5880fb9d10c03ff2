"""Plausible text, the same for the same random numbers."""

from __future__ import annotations

import random

_OPENINGS = (
    "There are two ways to look at this, and the shorter one is usually enough.",
    "Start with what is certain and leave the rest for later.",
    "In short, the answer depends on how the pieces are joined.",
    "A good first step is to write down what you already know.",
    "The idea is older than it looks, and simpler too.",
    "Sure! Here is one way to think about it. 🙂",
    "Das lässt sich recht einfach erklären, wenn man vorne anfängt.",
    "Bien sûr, voici l'essentiel en quelques phrases.",
)
_SENTENCES = (
    "A messenger who travels light arrives early, and the same holds for data.",
    "Each part does one thing, so a fault in one place stays in that place.",
    "Measure first, because a guess about speed is wrong more often than right.",
    "The café on the corner of Königstraße keeps its prices on a slate, which is cache invalidation done well.",
    "When the queue grows faster than it drains, no amount of patience will help.",
    "Small numbers hide in averages; look at the slowest answer in a hundred instead.",
    "In Kyōto the old word for road, 道, also means a way of doing things.",
    "If nothing else works, try again a little later and with less.",
    "That said, the cheapest request is the one that is never sent.",
    "Notice how the second case repeats the first with the sign turned around.",
    "Rivers do the same: they find the lowest path without a map. 🌊",
    "The word 翼 means wing, and it is written with eleven and six strokes.",
    "Keep the units beside the numbers and most mistakes show themselves.",
    "A name that needs a comment is a name that wants to be changed.",
    "Señor Ibáñez would call this a question of naïveté rather than of skill.",
    "Two clocks never agree, so decide early which of them is right.",
    "What comes out of the cache must be what went into it, byte for byte.",
    "The exception is worth a sentence of its own, because it happens daily.",
    "On the other hand, a rule without exceptions is easier to remember.",
    "Half of the work is deciding what may be left undone.",
    "Every lock needs an owner and every owner a way to let go.",
    "The figure rose from 12.5 to 48.75 within 3 weeks, then settled near 31.",
    "Light takes eight minutes from the sun; plan for at least one round trip. ☀️",
    "Both readings are fair, but only one of them fits the evidence.",
)
_CLOSINGS = (
    "That is the whole of it.",
    "Ask again if one of these steps is unclear.",
    "The rest is detail.",
    "Everything else follows from there. ✨",
    "以上です。",
)
_THOUGHTS = (
    "The question asks for one thing, so find that thing first.",
    "Check the easy case before the general one.",
    "The numbers agree, which is reassuring.",
    "Nothing in the request rules out the simple answer.",
    "An example would help, but a short one.",
    "Let me verify the last step once more.",
)
_COUNTS = {sentence: len(sentence.split()) for sentence in (*_OPENINGS, *_SENTENCES, *_CLOSINGS, *_THOUGHTS)}


def answer(random: random.Random) -> str:
    """Between 40 and about 120 words."""
    wanted = random.randint(25, 85)
    sentences = [random.choice(_OPENINGS)]
    words = _COUNTS[sentences[0]]
    while words < wanted:
        sentences.append(random.choice(_SENTENCES))
        words += _COUNTS[sentences[-1]]
    sentences.append(random.choice(_CLOSINGS))
    while words + _COUNTS[sentences[-1]] < 40:
        sentences.insert(-1, random.choice(_SENTENCES))
        words += _COUNTS[sentences[-2]]
    return " ".join(sentences)


def words(random: random.Random, wanted: int) -> str:
    """Exactly so many words."""
    said: list[str] = []
    while len(said) < wanted:
        said.extend(random.choice(_SENTENCES).split())
    return " ".join(said[:wanted]).rstrip(",;:") if wanted else ""


def thought(random: random.Random, sentences: int) -> str:
    return " ".join(random.choice(_THOUGHTS) for _ in range(sentences))

"""Two drawings in one scene, and captions that say how they lie to each other.

A pair is a big thing (the concept) and a small one (the other), the big one left of, right of, above or
below the small one, in one art style before one background. So every picture has one description, which can
be told from either side: "a big owl left of a small duck", "a small duck right of a big owl". Style,
distances and shade stay out of it. In English only the order of the words tells which thing is where; in
Russian the case does.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from salon.data.ingest.worlds.scenes import (
    BACKGROUNDS,
    SUPERSAMPLING,
    Artwork,
    Rendered,
    box_filter,
    lay_over,
    paint_background,
    place,
)

PAIR_ATTRIBUTES = ("concept", "other", "relation", "background")
SIDES = {"small": (0.30, 0.36), "big": (0.48, 0.56)}  # share of the scene that a drawing's frame takes
GAP = 0.02  # least distance between the two frames, likewise
DRIFT = 0.1  # furthest that a thing lies off the line through the middle, likewise


@dataclass(frozen=True)
class Relation:
    """Where one thing lies, seen from another."""

    en: str
    ru: str
    case: str
    """Russian case of what it is seen from: `genitive` or `instrumental`."""
    opposite: str
    """The same, told from the other side."""
    axis: int
    """0 along x, 1 along y."""
    sign: int
    """-1 where the one thing has the smaller coordinate."""


RELATIONS = {
    "left_of": Relation("left of", "слева от", "genitive", "right_of", 0, -1),
    "right_of": Relation("right of", "справа от", "genitive", "left_of", 0, 1),
    "above": Relation("above", "над", "instrumental", "below", 1, -1),
    "below": Relation("below", "под", "instrumental", "above", 1, 1),
}


@dataclass(frozen=True)
class Noun:
    """A Russian noun in the cases that captions need."""

    nominative: str
    genitive: str
    instrumental: str
    gender: str
    """`m`, `f` or `n`."""


NOUNS = {
    "anchor": Noun("якорь", "якоря", "якорем", "m"),
    "banana": Noun("банан", "банана", "бананом", "m"),
    "bus": Noun("автобус", "автобуса", "автобусом", "m"),
    "butterfly": Noun("бабочка", "бабочки", "бабочкой", "f"),
    "cactus": Noun("кактус", "кактуса", "кактусом", "m"),
    "camera": Noun("фотоаппарат", "фотоаппарата", "фотоаппаратом", "m"),
    "crab": Noun("краб", "краба", "крабом", "m"),
    "crown": Noun("корона", "короны", "короной", "f"),
    "dolphin": Noun("дельфин", "дельфина", "дельфином", "m"),
    "doughnut": Noun("пончик", "пончика", "пончиком", "m"),
    "duck": Noun("утка", "утки", "уткой", "f"),
    "elephant": Noun("слон", "слона", "слоном", "m"),
    "guitar": Noun("гитара", "гитары", "гитарой", "f"),
    "hammer": Noun("молоток", "молотка", "молотком", "m"),
    "house": Noun("дом", "дома", "домом", "m"),
    "key": Noun("ключ", "ключа", "ключом", "m"),
    "lemon": Noun("лимон", "лимона", "лимоном", "m"),
    "mushroom": Noun("гриб", "гриба", "грибом", "m"),
    "octopus": Noun("осьминог", "осьминога", "осьминогом", "m"),
    "owl": Noun("сова", "совы", "совой", "f"),
    "pear": Noun("груша", "груши", "грушей", "f"),
    "penguin": Noun("пингвин", "пингвина", "пингвином", "m"),
    "pizza": Noun("пицца", "пиццы", "пиццей", "f"),
    "ring": Noun("кольцо", "кольца", "кольцом", "n"),
    "rocket": Noun("ракета", "ракеты", "ракетой", "f"),
    "rose": Noun("роза", "розы", "розой", "f"),
    "snail": Noun("улитка", "улитки", "улиткой", "f"),
    "strawberry": Noun("клубника", "клубники", "клубникой", "f"),
    "sun": Noun("солнце", "солнца", "солнцем", "n"),
    "telephone": Noun("телефон", "телефона", "телефоном", "m"),
    "tractor": Noun("трактор", "трактора", "трактором", "m"),
    "turtle": Noun("черепаха", "черепахи", "черепахой", "f"),
    "umbrella": Noun("зонт", "зонта", "зонтом", "m"),
}

ADJECTIVES = {
    "small": {
        "nominative": {"m": "маленький", "f": "маленькая", "n": "маленькое"},
        "genitive": {"m": "маленького", "f": "маленькой", "n": "маленького"},
        "instrumental": {"m": "маленьким", "f": "маленькой", "n": "маленьким"},
    },
    "big": {
        "nominative": {"m": "большой", "f": "большая", "n": "большое"},
        "genitive": {"m": "большого", "f": "большой", "n": "большого"},
        "instrumental": {"m": "большим", "f": "большой", "n": "большим"},
    },
}

PAIR_PHRASINGS = {
    "en": (
        "a {one} {relation} a {another} on a {background} background",
        "a {background} background with a {one} {relation} a {another}",
        "{relation} a {another} there is a {one}, {background} background",
    ),
    "ru": (
        "{one} {relation} {another} на {background} фоне",
        "на {background} фоне {one} {relation} {another}",
        "{relation} {another} — {one}, на {background} фоне",
    ),
}


def write_pair_caption(attributes: Mapping[str, str], *, lang: str, phrasing: int) -> str:
    """The caption of a pair in language `lang`; even phrasings are about the big thing, odd ones the small.

    There are `count_phrasings(lang)` phrasings.
    """
    relation = RELATIONS[attributes["relation"]]
    things = [("big", attributes["concept"]), ("small", attributes["other"])]
    if phrasing % 2:  # told of the small thing
        relation = RELATIONS[relation.opposite]
        things.reverse()
    if lang == "en":
        one, another = (f"{size} {name}" for size, name in things)
    else:
        one, another = (
            f"{ADJECTIVES[size][case][NOUNS[name].gender]} {getattr(NOUNS[name], case)}"
            for (size, name), case in zip(things, ("nominative", relation.case), strict=True)
        )
    return PAIR_PHRASINGS[lang][phrasing // 2].format(
        one=one,
        another=another,
        relation=getattr(relation, lang),
        background=getattr(BACKGROUNDS[attributes["background"]], lang),
    )


def count_phrasings(lang: str) -> int:
    """Ways to say one thing in a language."""
    return 2 * len(PAIR_PHRASINGS[lang])


@dataclass(frozen=True)
class PairBook:
    """How captions of pairs speak: there are few ways to say a thing, so that all of them can be tried."""

    languages: tuple[str, ...]

    def disagreement(self, caption: str, *, lang: str, attributes: Mapping[str, str]) -> str | None:
        """Why `caption` does not say what `attributes` do in language `lang`; `None` when it does."""
        if lang not in self.languages:
            return f"no caption of a pair is in language {lang!r}"
        absent = [name for name in PAIR_ATTRIBUTES if name not in attributes]
        if absent:
            return f"the row has no attribute {absent[0]!r}"
        try:
            meant = [
                write_pair_caption(attributes, lang=lang, phrasing=number)
                for number in range(count_phrasings(lang))
            ]
        except (KeyError, ValueError) as error:
            return f"no caption of a pair knows {error.args[0]!r}"
        return None if caption in meant else f"the caption should be {meant[0]!r} or say the same"


def render_pair(
    big: Artwork,
    small: Artwork,
    attributes: Mapping[str, str],
    *,
    image_size: int,
    rotation_degrees: float,
    rng: np.random.Generator,
) -> Rendered:
    """`big` (the concept) and `small` (the other) as `attributes` say; all variation comes from `rng`.

    The frames of the two drawings never meet.
    """
    canvas = image_size * SUPERSAMPLING
    relation = RELATIONS[attributes["relation"]]
    sides = {size: rng.uniform(*limits) for size, limits in SIDES.items()}
    slack = 1 - sum(sides.values())
    gap = rng.uniform(GAP, slack)
    start = rng.uniform(0, slack - gap)  # before the thing with the smaller coordinate
    near, far = ("big", "small") if relation.sign < 0 else ("small", "big")
    along = {near: start + sides[near] / 2, far: start + sides[near] + gap + sides[far] / 2}
    scene, factors = paint_background(BACKGROUNDS[attributes["background"]], canvas, rng)
    for name, artwork in (("big", big), ("small", small)):
        shift = [0.0, 0.0]
        shift[relation.axis] = (along[name] - 0.5) * canvas
        shift[1 - relation.axis] = rng.uniform(-DRIFT, DRIFT) * canvas
        angle = rng.uniform(-rotation_degrees, rotation_degrees)
        scene = lay_over(scene, place(artwork.rgba, canvas, sides[name], angle, *shift))
        pose = {"scale": sides[name], "angle": angle, "x": shift[0] / canvas, "y": shift[1] / canvas}
        factors |= {f"{name}_{factor}": value for factor, value in pose.items()}
    return Rendered(box_filter(scene), factors)

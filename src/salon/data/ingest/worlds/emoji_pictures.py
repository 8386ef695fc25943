"""Every drawing of the emoji archive as it is, with its own captions in every language.

A drawing exists once, so that attributes could not be judged: the rows have none, and captions are judged as
a whole. Pictures that look alike stay in one split. `val` and `test` hold unseen drawings of things that
training shows in another style; `novel` holds captions that training lacks and all of whose words it has.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8, UInt64
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from salon.data.ingest.near_pairs import near_pairs
from salon.data.ingest.worlds.archive import check_names, read_archive, to_artwork
from salon.data.ingest.worlds.base import NOTHING_KNOWN, KnownSources
from salon.data.ingest.worlds.compose import compose_all, rendered_row
from salon.data.ingest.worlds.scenes import STYLES_RU, Artwork
from salon.data.schema import Row
from salon.errors import SalonError
from salon.params.worlds import EmojiPicturesParams

SOURCE = "emoji-pictures"
SECTION = "ingest.emoji_pictures"
BACKDROP = (208, 208, 208)  # neither white nor black art vanishes on it
WORD = re.compile(r"\w+")


def known_sources(params: EmojiPicturesParams, *, archive: Path) -> KnownSources:
    return NOTHING_KNOWN  # drawings as they are have no ground truth


def count_rows(params: EmojiPicturesParams) -> int:
    return sum(params.pictures.values()) * len(params.languages)


def read_rows(params: EmojiPicturesParams, *, archive: Path, seed: int) -> Iterator[Row]:
    """Every drawing once per language."""
    records = read_archive(archive)
    check_names(params.styles, {record["style"] for record in records}, where=f"{SECTION}.styles")
    records = [record for record in records if not params.styles or record["style"] in params.styles]
    records = choose_drawings(records, sum(params.pictures.values()), seed=seed)
    rendered = list(compose_all(_Renderer(params, records), {"train": len(records)}))
    phashes = np.array([int(row.phash, 16) for row in rendered], dtype=np.uint64)
    groups = group_alike(phashes, distance=params.twin_distance)
    places = assign_drawings(records, groups, params.pictures, seed=seed)
    for split, drawings in places.items():
        for drawing, lang in product(drawings, params.languages):
            caption = write_caption(records[drawing], lang=lang, name_style=params.name_style)
            yield replace(rendered[drawing], caption=caption, lang=lang, split=split)


def choose_drawings(records: Sequence[dict[str, Any]], count: int, *, seed: int) -> list[dict[str, Any]]:
    """`count` drawings in the archive's order: of each thing all, but for the last one chosen.

    Raises:
        SalonError: there are not so many.
    """
    if count > len(records):
        raise SalonError(f"{SECTION}.pictures asks for {count} drawings, there are {len(records)}")
    things = sorted({record["text"] for record in records})
    order = np.random.default_rng([seed, 1]).permutation(things).tolist()
    rank = {thing: number for number, thing in enumerate(order)}
    nearest = sorted(range(len(records)), key=lambda drawing: (rank[records[drawing]["text"]], drawing))
    return [records[drawing] for drawing in sorted(nearest[:count])]


def group_alike(phashes: UInt64[np.ndarray, " n"], *, distance: int) -> Int[np.ndarray, " n"]:
    """The number of each drawing's group; alike are drawings that differ in fewer than `distance` bits."""
    n = len(phashes)
    left, right = near_pairs(phashes, distance=distance)
    graph = coo_array((np.ones(len(left)), (left, right)), shape=(n, n))
    return connected_components(graph, directed=False)[1]


def assign_drawings(
    records: Sequence[Mapping[str, Any]],
    groups: Int[np.ndarray, " n"],
    counts: Mapping[Any, int],
    *,
    seed: int,
) -> dict[str, list[int]]:
    """Split -> its drawings, as many as `counts` asks for; training has those that are left.

    `novel` may have a few less, since it takes a thing with all its drawings.

    Raises:
        SalonError: not so many can be held out.
    """
    rng = np.random.default_rng([seed, 0])
    novel = _choose_novel(records, groups, counts["novel"], rng)
    free = set(range(len(records))) - set(novel)
    left = Counter(records[drawing]["text"] for drawing in free)  # of each thing, not held out yet
    places = {"novel": sorted(novel)}
    members: dict[int, list[int]] = defaultdict(list)
    for drawing in sorted(free):
        members[int(groups[drawing])].append(drawing)
    order = [members[group] for group in rng.permutation(sorted(members))]
    for split in ("val", "test"):
        chosen: list[int] = []
        for group in order:
            texts = [records[drawing]["text"] for drawing in group]
            fits = len(chosen) + len(group) <= counts[split]
            if fits and group[0] in free and all(left[text] > texts.count(text) for text in texts):
                chosen += group
                free -= set(group)
                left.subtract(texts)
        if len(chosen) < counts[split]:
            raise SalonError(f"{SECTION}.pictures.{split}: at most {len(chosen)} drawings can be held out")
        places[split] = sorted(chosen)
    places["train"] = sorted(free)
    return {split: places[split] for split in counts}


def _choose_novel(
    records: Sequence[Mapping[str, Any]], groups: Int[np.ndarray, " n"], count: int, rng: np.random.Generator
) -> list[int]:
    """All drawings of some things, each of whose words other things' captions have in every language."""
    drawings: dict[str, list[int]] = defaultdict(list)
    for drawing, record in enumerate(records):
        drawings[record["text"]].append(drawing)
    words = {text: _words(records[found[0]]) for text, found in drawings.items()}
    uses = Counter(word for found in words.values() for word in found)
    size = np.bincount(groups)
    chosen: list[int] = []
    for text in rng.permutation(sorted(drawings)).tolist():
        found = drawings[text]
        alike = {int(groups[drawing]) for drawing in found}
        alone = sum(size[group] for group in alike) == len(found)  # nothing else looks like it
        said = len(WORD.findall(text)) > 1 and all(uses[word] > 1 for word in words[text])
        if alone and said and len(chosen) + len(found) <= count:
            chosen += found
            uses.subtract(words[text])
    # a thing is novel as a whole: what the last one would have been too many for goes to training
    if len(chosen) + max(map(len, drawings.values())) <= count:
        raise SalonError(
            f"{SECTION}.pictures.novel: only {len(chosen)} drawings have captions made of others' words"
        )
    return chosen


def _words(record: Mapping[str, Any]) -> set[str]:
    """Of both languages; the alphabets keep them apart."""
    return set(WORD.findall(f"{record['text']} {record['text_ru']}".lower()))


def write_caption(record: Mapping[str, Any], *, lang: str, name_style: bool) -> str:
    """The drawing's own caption."""
    concept, style = {
        "en": (record["text"], record["style_text"]),
        "ru": (record["text_ru"], STYLES_RU[record["style"]]),
    }[lang]
    return f"{concept}, {style}" if name_style else concept


def render_plain(artwork: Artwork, *, image_size: int) -> UInt8[np.ndarray, "s s 3"]:
    """The drawing on a plain backdrop."""
    drawing = Image.fromarray(artwork.rgba, mode="RGBA")
    if drawing.size != (image_size, image_size):
        # premultiplied: no dark fringes
        drawing = drawing.convert("RGBa").resize((image_size, image_size), Image.Resampling.LANCZOS)
        drawing = drawing.convert("RGBA")
    backdrop = Image.new("RGBA", drawing.size, (*BACKDROP, 255))
    return np.asarray(Image.alpha_composite(backdrop, drawing).convert("RGB"))


@dataclass(frozen=True)
class _Renderer:
    """Renderer of single drawings, before their splits and languages are known."""

    params: EmojiPicturesParams
    records: list[dict[str, Any]]

    def compose(self, split: str, index: int) -> Row:
        artwork = to_artwork(self.records[index])
        pixels = render_plain(artwork, image_size=self.params.image_size)
        provenance = {"licence": artwork.licence, "attribution": artwork.attribution}
        return rendered_row(pixels, split=split, source=SOURCE, **provenance)

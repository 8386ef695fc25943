"""Settings of the embedded worlds: captioned pictures made of the emoji artwork."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from salon.params.section import FloatRange, Section
from salon.paths import SPLITS


def _distinct(names: list[str]) -> list[str]:
    twice = [name for number, name in enumerate(names) if name in names[:number]]
    if twice:
        raise ValueError(f"{twice[0]!r} twice")
    return names


def _every_split(pictures: dict[str, int]) -> dict[str, int]:
    missing = [split for split in SPLITS if split not in pictures]
    if missing:
        raise ValueError(f"no number for {', '.join(missing)}")
    return pictures


Names = Annotated[list[str], Field(min_length=2), AfterValidator(_distinct)]
Languages = Annotated[list[Literal["en", "ru"]], Field(min_length=1), AfterValidator(_distinct)]
PicturesPerSplit = Annotated[
    dict[Literal["train", "val", "test", "novel"], Annotated[int, Field(gt=0)]],
    AfterValidator(_every_split),
]


class EmojiParams(Section):
    """The embedded default source: real artwork composed into captioned scenes."""

    image_size: int = Field(32, ge=16, le=256, multiple_of=8)
    """Width and height of a scene in pixels."""
    concepts: Names
    """What a scene shows; values of the archive's `text` column."""
    styles: Names
    """Whose artwork; values of the archive's `style` column."""
    backgrounds: Names
    """What stands behind it; names known to `salon.data.ingest.worlds.scenes`."""
    languages: Languages = Field(["en", "ru"])
    """Caption languages; each scene is captioned in one of them, drawn at random."""
    pictures: PicturesPerSplit
    """Scenes per split; `novel` is shared equally by its two kinds."""
    held_out_concept_background: int = Field(ge=1)
    """Concept x background pairs kept out of training (the easy novelty)."""
    held_out_concept_style: int = Field(ge=1)
    """Concept x style pairs kept out of training (the hard novelty: artwork never seen)."""
    scale: FloatRange = (0.78, 0.94)
    """Smallest and largest side of the object as a share of the scene; never told by the caption."""
    rotation_degrees: float = Field(10.0, ge=0, le=180)
    """Largest rotation either way; never told by the caption."""


class EmojiPairsParams(Section):
    """A big and a small thing in one scene, and where the big one lies, seen from the small one."""

    image_size: int = Field(64, ge=32, le=256, multiple_of=8)
    """Width and height of a scene in pixels."""
    concepts: Annotated[list[str], Field(min_length=4), AfterValidator(_distinct)]
    """What a scene shows two of; names that `salon.data.ingest.worlds.pairs` can decline in Russian."""
    styles: Annotated[list[str], Field(min_length=1), AfterValidator(_distinct)]
    """Whose artwork, drawn at random for each scene; never told by the caption."""
    backgrounds: Names
    """What stands behind them; names known to `salon.data.ingest.worlds.scenes`."""
    languages: Languages = Field(["en", "ru"])
    """Caption languages; each scene is captioned in one of them, drawn at random."""
    pictures: PicturesPerSplit
    """Scenes per split; `novel` is shared equally by its two kinds."""
    held_out_concept_relation: int = Field(ge=1)
    """Concept x relation pairs kept out of training, e.g. a big rocket above anything."""
    held_out_concept_other: int = Field(ge=1)
    """Pairs of concepts that are never together in training."""
    rotation_degrees: float = Field(6.0, ge=0, le=45)
    """Largest rotation either way; never told by the caption."""


class EmojiPicturesParams(Section):
    """The drawings as they are, with their own captions: nothing is composed, and each exists once."""

    image_size: int = Field(64, ge=16, le=256, multiple_of=8)
    """Width and height of a picture in pixels; the archive's are 64x64."""
    styles: Annotated[list[str], AfterValidator(_distinct)] = Field([])
    """Whose artwork; values of the archive's `style` column. Empty: all."""
    languages: Languages = Field(["en", "ru"])
    """Caption languages; each drawing has one row in each of them."""
    name_style: bool = True
    """Whether a caption names the style too; without it the drawings of a thing share their captions."""
    pictures: PicturesPerSplit
    """Drawings per split; `novel` holds captions that training lacks and all of whose words it has."""
    twin_distance: int = Field(4, ge=0, le=16)
    """Drawings whose perceptual hashes differ in fewer of 64 bits stay in one split; keep it at or above
    `validate.phash_distance`."""

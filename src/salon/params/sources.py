"""All sources, by name, and the settings of those that read captions and pictures of one's own.

They stand apart from `salon.params` because they are many, and outside `salon.data` because that imports
them.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from salon.params.section import Fraction, IntRange, Section
from salon.params.worlds import EmojiPairsParams, EmojiParams, EmojiPicturesParams

Channel = Annotated[int, Field(ge=0, le=255)]


class ColumnParams(Section):
    """What the columns (of Parquet, CSV, a hub) or keys (of JSON) of a source are called."""

    image: str = "image"
    """The picture: a struct{bytes, path}, bytes, or a path below `ingest.path` (`parquet`, `hub`)."""
    caption: str | dict[str, str] | None = None
    """The caption, a text or a list of texts; or language tag -> column. Unset: `text`, `caption` or
    `captions`, whichever comes first in a row."""
    lang: str | None = None
    """The caption's language tag; unset or empty in a row: see `language`."""
    split: str | None = None
    """The split that a row belongs to; unset: the name of its folder, file or hub split."""
    licence: str | None = None
    """The picture's licence; unset or empty in a row: see `licence`."""
    attribution: str | None = None
    """Whom to credit; unset or empty in a row: see `attribution`."""


class SplitParams(Section):
    """Shares of the pictures that go to each split; the rest is for training."""

    val: Fraction = 0.1
    test: Fraction = 0.1
    novel: Fraction = 0.0


def _leaves_training(shares: SplitParams) -> SplitParams:
    if shares.val + shares.test + shares.novel >= 1:
        raise ValueError("val, test and novel together leave nothing for training")
    return shares


class CaptionedParams(Section):
    """What every source of one's own pictures can be told."""

    image_size: int = Field(32, ge=16, le=1024, multiple_of=8)
    """Width and height of every ingested picture, in pixels."""
    fit: Literal["crop", "pad"] = "crop"
    """How a picture that is not square becomes so: its centre, or all of it with `background` around."""
    background: tuple[Channel, Channel, Channel] = (255, 255, 255)
    """Colour (red, green, blue) behind transparent pixels and around a padded picture."""
    max_pixels: int = Field(64_000_000, gt=0)
    """Larger pictures are not decoded. A picture takes 4 bytes per pixel in each worker process."""
    max_bytes: int = Field(64_000_000, gt=0)
    """Larger files are not read."""
    min_side: int = Field(8, ge=1)
    """Pictures whose shorter side has fewer pixels are no pictures but dots."""
    allow_mislabelled: bool = False
    """Take a picture whose name claims another format than its bytes have."""
    caption_length: IntRange = (3, 200)
    """Shortest and longest caption taken, in characters; keep it within `validate.caption_length`."""
    language: str = Field("script", min_length=2)
    """Language tag of the captions that have none; `script`: told by their letters."""
    scripts: dict[str, str] = Field({})
    """Script -> language tag, where the letters mean another language than usual, e.g. {latin: de}."""
    columns: ColumnParams = ColumnParams()
    attributes: dict[str, str] = Field({})
    """Attribute -> column with its value: ground truth for the scorer. Empty: captions alone are judged."""
    licence: str = Field("not stated", pattern=r"\S")
    """Licence of the pictures that name none."""
    attribution: str = Field("not stated", pattern=r"\S")
    """Whom to credit for the pictures that do not say."""
    split_by: Literal["source", "picture"] = "source"
    """`source`: keep the source's own splits, and fill from its training pictures those that it lacks.
    `picture`: assign all of them by the hash of the picture."""
    splits: Annotated[SplitParams, AfterValidator(_leaves_training)] = SplitParams()
    """Shares of the splits that are assigned."""
    phash_distance: int = Field(4, ge=0, le=16)
    """Pictures whose perceptual hashes differ in fewer of 64 bits stay in one split."""


class CocoParams(CaptionedParams):
    """`captions_*.json` with a folder of pictures."""

    annotations: str = "**/captions_*.json"
    """The caption files below `ingest.path`."""
    images: str | None = None
    """Folder of the pictures below `ingest.path`; unset: `train2017` for `captions_train2017.json`, if
    there is one, else `images`, else `ingest.path` itself."""


class HubParams(CaptionedParams):
    """A dataset that Hugging Face `datasets` reads, streamed."""

    id: str | None = None
    """The dataset's name on the hub, e.g. `user/drawings`; unset: the folder `ingest.path`."""
    config: str | None = None
    """Which of the dataset's configurations; unset: the default one."""
    revision: str | None = None
    """Commit, branch or tag on the hub. Name a commit: DVC does not see that a branch moved on."""


SOURCES: dict[str, type[Section]] = {
    "emoji": EmojiParams,
    "emoji_pairs": EmojiPairsParams,
    "emoji_pictures": EmojiPicturesParams,
    "imagefolder": CaptionedParams,
    "coco": CocoParams,
    "webdataset": CaptionedParams,
    "parquet": CaptionedParams,
    "hub": HubParams,
}
"""What `ingest.source` may say -> the settings in the section of this name.

A row and a module of its name is all that a source is: in `salon.data.ingest.sources` where the settings are
`CaptionedParams`, those of one's own pictures, else in `salon.data.ingest.worlds`.
"""


def is_world(source: str) -> bool:
    """Whether the source is a rendered world, and not somebody's own pictures."""
    return not issubclass(SOURCES.get(source, CaptionedParams), CaptionedParams)

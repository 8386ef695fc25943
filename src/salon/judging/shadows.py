"""Shadows: pictures that training did not see, exchangeable with training's; and scenes of strange drawings.

Every method and sentinel is held against the same ones, each in a process of its own. They are therefore kept
in the workspace's scratch folder, under a digest of the rows, the world and the code that they follow from:
24,000 scenes take 25 s to render and 74 MB to keep.
"""

import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from salon.data.dataset import Dataset
from salon.data.ingest.worlds.compose import SceneComposer, in_parallel
from salon.data.schema import Row
from salon.fingerprint import fingerprint
from salon.judging.drawings import DrawingTest
from salon.judging.memorisation import Channel, CopyTest, distinct_rows, thumbnails
from salon.paths import Paths
from salon.weights import load_tensors, save_tensors

STRANGERS = 600  # scenes of drawings that are not in training: 1 % of them are six
SOURCES = (
    "data/dataset.py",
    "data/ingest/worlds",
    "images.py",
    "judging/memorisation.py",
    "judging/shadows.py",
)


@dataclass(frozen=True)
class Pools:
    """What is compared with training pictures, and their thumbnails."""

    thumbs: Float[Tensor, "n d"]
    """Of training pictures: each where scenes are rendered, else the distinct ones."""
    rows: Int[Tensor, "n"]
    """Where these stand in the training split."""
    others: UInt8[Tensor, "m 3 h w"]
    """Exchangeable with training's: their shadows where scenes are rendered, else held-out pictures."""
    strangers: UInt8[Tensor, "q 3 h w"]
    """Scenes of drawings that training lacks; none where a picture shows no one drawing."""

    @classmethod
    def open(cls, paths: Paths, data: Dataset, *, prompts: int, composer: SceneComposer | None) -> "Pools":
        """Read what an earlier process made, or make it.

        Args:
            prompts: So many first rows of `test` are prompts, and held out for nothing else.
            composer: Who renders the scenes, where pictures are scenes.
        """
        world = [composer.params.model_dump(), composer.seed] if composer else prompts
        key = fingerprint(world, files=[paths.interim], sources=SOURCES)
        file = paths.scratch / "shadows" / f"{key}.safetensors"
        if not file.is_file():
            found = _render(data, composer) if composer else _hold_out(data, prompts)
            save_tensors(file, vars(found))
            for stale in set(file.parent.glob("*.safetensors")) - {file}:  # of other rows or other code
                stale.unlink(missing_ok=True)
        return cls(**load_tensors(file))

    def copy_test(self, data: Dataset, *, seed: int, channel: Channel | None) -> CopyTest:
        """For pictures that left through `channel`."""
        return CopyTest(
            self.thumbs, self.rows, self.others, training=lambda: data["train"], seed=seed, channel=channel
        )

    def drawing_test(self, data: Dataset, composer: SceneComposer) -> DrawingTest | None:
        """Where pictures show one drawing each."""
        if not len(self.strangers):
            return None
        shown = [*map(composer.drawing, data["train"].attributes)]
        return DrawingTest.against(self.strangers, self.thumbs, shown)


def _render(data: Dataset, composer: SceneComposer) -> Pools:
    training = data["train"]
    strangers = render_strangers(composer)
    return Pools(
        thumbnails(training.images),
        torch.arange(len(training)),
        render_shadows(composer, training.attributes),
        training.images[:0] if strangers is None else strangers,
    )


def _hold_out(data: Dataset, prompts: int) -> Pools:
    training, test, val = data["train"].images, data["test"].images, data["val"].images
    rows, others = distinct_rows(training), torch.cat([test, val])
    # with several captions a picture stands in several rows, prompts and others
    held_out = others[distinct_rows(others, without=test[:prompts])]
    return Pools(thumbnails(training[rows]), rows, held_out, held_out[:0])


def render_shadows(composer: SceneComposer, attributes: Iterable[dict[str, str]]) -> UInt8[Tensor, "n 3 h w"]:
    """One more scene of each training row's attributes, all else drawn anew; a millisecond each."""
    return decode_rows(in_parallel(composer.again, ((each, row) for row, each in enumerate(attributes))))


def render_strangers(composer: SceneComposer) -> UInt8[Tensor, "n 3 h w"] | None:
    """Scenes as training's, each of another drawing that training lacks; `None` where there are none."""
    if (strangers := composer.strangers(STRANGERS)) is None:
        return None
    others, attributes = strangers
    return decode_rows(in_parallel(others.again, ((each, row) for row, each in enumerate(attributes))))


def decode_rows(rows: Iterable[Row]) -> UInt8[Tensor, "n 3 h w"]:
    """The pictures of rows that were rendered, all of one size."""
    images = np.stack([np.asarray(Image.open(io.BytesIO(row.image_bytes))) for row in rows])
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()

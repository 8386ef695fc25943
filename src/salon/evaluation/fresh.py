"""Prompts for one contest alone: what a challenger is chosen by must not be what it was chosen on before."""

from salon.data.dataset import CaptionedImages, Dataset
from salon.data.ingest.worlds.base import open_composer
from salon.data.ingest.worlds.compose import SceneComposer
from salon.data.schema import row_id
from salon.evaluation.prompts import select_first
from salon.judging.shadows import decode_rows
from salon.params import Params
from salon.paths import Paths

SPLIT = "val"  # selection looks at val, the report at test
ROWS_PER_ATTEMPT = 1_000_000  # no attempt asks for so many, so that none meets the scenes of another


def contest_prompts(
    params: Params, paths: Paths, data: Dataset, *, attempt: int
) -> tuple[CaptionedImages, str]:
    """What challenger and champion draw in this attempt, and what to call it.

    Scenes that no split and no other attempt has; where none are rendered, the rows of `val` again.

    Raises:
        SalonError: the drawings that scenes are made of are missing.
    """
    archive = paths.root / params.ingest.path
    composer = open_composer(params.ingest, archive=archive, seed=params.seed)
    if composer is None:
        known = select_first(data[SPLIT], params.register_.prompts)
        return known, f"the {len(known)} prompts of val with other noise, since no new ones can be rendered"
    count = params.register_.prompts
    return render_scenes(composer, first=attempt * ROWS_PER_ATTEMPT, count=count), f"{count} new prompts"


def render_scenes(composer: SceneComposer, *, first: int, count: int) -> CaptionedImages:
    """Scenes like those of `val` that are in no split; a millisecond each."""
    rows = [composer.further(SPLIT, first + number) for number in range(count)]
    return CaptionedImages(
        ids=[row_id(row.image_bytes, row.caption, row.lang) for row in rows],
        images=decode_rows(rows),
        captions=[row.caption for row in rows],
        langs=[row.lang for row in rows],
        attributes=[dict(row.attributes) for row in rows],
    )

"""A contest's prompts are new, and what is planted in its pictures is found."""

import numpy as np
import torch

from salon.data.dataset import CaptionedImages, Dataset
from salon.data.ingest.worlds.base import open_composer
from salon.evaluation.contest import Entry, judge_entries
from salon.evaluation.fresh import ROWS_PER_ATTEMPT, contest_prompts, render_scenes
from salon.judging.fidelity import blends
from salon.judging.jury import Jury
from salon.params import IngestParams
from salon.paths import SPLITS
from workspaces import Workspace


def prompts_of(workspace: Workspace, attempt: int) -> CaptionedImages:
    data = Dataset(workspace.paths.interim)
    return contest_prompts(workspace.params, workspace.paths, data, attempt=attempt)[0]


def test_every_attempt_has_scenes_of_its_own_of_what_training_showed(workspace: Workspace) -> None:
    data = Dataset(workspace.paths.interim)
    found = [set(prompts_of(workspace, attempt).ids) for attempt in (1, 2, 3)]
    known = {each for split in SPLITS for each in data.ids(split)}
    assert len(set.union(known, *found)) == len(known) + 3 * workspace.params.register_.prompts
    first = prompts_of(workspace, 1)
    assert set(first.ids) == found[0], "the same for both, and when a killed contest is held again"
    shown = {frozenset(row.items()) for row in data.attributes("train")}
    combinations = {frozenset(row.items()) for row in first.attributes}
    assert combinations <= shown
    assert not combinations & {frozenset(row.items()) for row in data.attributes("novel")}
    assert first.images.shape[1:] == data["val"].images.shape[1:]


def test_the_number_of_prompts_lets_no_attempt_into_the_next(workspace: Workspace) -> None:
    params = workspace.params
    composer = open_composer(params.ingest, archive=workspace.root / params.ingest.path, seed=params.seed)
    assert composer is not None
    (last,) = render_scenes(composer, first=2 * ROWS_PER_ATTEMPT - 1, count=1).ids
    assert last not in prompts_of(workspace, 2).ids


def test_where_no_scenes_are_rendered_it_is_the_prompts_of_val_and_the_reason_says_so(
    workspace: Workspace,
) -> None:
    found = IngestParams.model_validate({"source": "parquet", "path": "mine", "max_quarantine_fraction": 0.1})
    params = workspace.params.model_copy(update={"ingest": found})
    data = Dataset(workspace.paths.interim)
    prompts, words = contest_prompts(params, workspace.paths, data, attempt=7)
    assert prompts.ids == data["val"].ids[:40]
    assert words == "the 40 prompts of val with other noise, since no new ones can be rendered"


def test_planted_differences_are_found(workspace: Workspace) -> None:
    params, paths = workspace.params, workspace.paths
    data = Dataset(paths.interim)
    jury = Jury(data, paths, params.evaluate)
    prompts = prompts_of(workspace, 1)
    real = [jury.alike.further(prompts, repeat) for repeat in (1, 2)]
    sound, blended = Entry(*real), Entry(*map(blends, real))
    better = judge_entries(jury, prompts, sound, blended, words="these")
    for found in better.likeness.values():
        assert abs(found.challenger) < 0.4
        assert found.champion > 0.6
        assert found.p() < 0.01
    worse = judge_entries(jury, prompts, blended, sound, words="these")
    assert min(found.p() for found in worse.likeness.values()) > 0.99

    collapsed = judge_entries(jury, prompts, Entry(real[0], real[0]), sound, words="these")
    assert collapsed.diversity.challenger == 0
    assert 0.5 < collapsed.diversity.champion < 1.5
    assert collapsed.diversity.p(-0.05) > 0.95
    assert collapsed.varied_against == "real ones"
    assert max(found.gain for found in collapsed.likeness.values()) == 0, "the judged pictures are the same"


def test_without_alike_pictures_variety_is_measured_by_the_champions(workspace: Workspace) -> None:
    params, paths = workspace.params, workspace.paths
    jury = Jury(Dataset(paths.interim), paths, params.evaluate)
    prompts = prompts_of(workspace, 1)
    alone = CaptionedImages(
        prompts.ids,
        prompts.images,
        [f"{i}" for i in range(len(prompts))],
        prompts.langs,
        [{**row, "concept": "owl", "background": f"nothing {i}"} for i, row in enumerate(prompts.attributes)],
    )
    generator = torch.Generator().manual_seed(0)
    shift = torch.randint(0, 60, (len(prompts), 3, 1, 1), generator=generator)
    champion = Entry(prompts.images, (prompts.images.int() + shift).clamp(0, 255).to(torch.uint8))
    halved = Entry(prompts.images, (prompts.images.int() + shift // 2).clamp(0, 255).to(torch.uint8))
    found = judge_entries(jury, alone, halved, champion, words="these")
    assert found.varied_against == "the champion's"
    assert found.diversity.champion == 1
    assert np.isclose(found.diversity.challenger, 0.5, atol=0.1)

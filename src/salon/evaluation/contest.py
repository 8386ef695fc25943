"""Challenger and champion before one jury: both draw the same prompts, from the same noise."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from salon.data.dataset import CaptionedImages, Dataset
from salon.devices import inference_device
from salon.evaluation.fresh import SPLIT, contest_prompts
from salon.evaluation.sampling import BatchSampler
from salon.files import read_json
from salon.inference.bundle import METHOD, read_models
from salon.inference.model import LoadedModel, ModelCache
from salon.judging.alike import wanted
from salon.judging.contest import Contest, Finding, compare_shares, compare_spreads
from salon.judging.diversity import thumbnail_distances
from salon.judging.fidelity import compare_kid
from salon.judging.jury import Jury
from salon.judging.leakage import refuse_leaks
from salon.judging.views import SMOOTHED, SMOOTHED_AGAIN
from salon.params import EvaluateParams, Params
from salon.paths import Paths
from salon.towers.states import TextStateCache


@dataclass(frozen=True)
class Entry:
    """What one model drew."""

    images: UInt8[Tensor, "n 3 h w"]
    """One image per prompt."""
    again: UInt8[Tensor, "n 3 h w"]
    """Another, of other noise."""


def hold_contest(params: Params, paths: Paths, *, challenger: Path, champion: Path, attempt: int) -> Contest:
    """What today's jury finds between the models of two bundles.

    Args:
        attempt: Number of the contest, under this registered name: each has its own prompts and noise.

    Raises:
        SalonError: the installed package is not the code of one, or it was trained with what would judge it.
    """
    cache = ModelCache()
    models = [_load(cache, bundle) for bundle in (challenger, champion)]
    data = Dataset(paths.interim)
    prompts, words = contest_prompts(params, paths, data, attempt=attempt)
    noise = {"seed": params.evaluate.seed + attempt, "pictures": len(prompts)}
    settings = params.evaluate.model_copy(update=noise)
    entries = [_draw(model, prompts, settings) for model in models]
    jury = Jury(data, paths, params.evaluate, device=inference_device())
    return judge_entries(jury, prompts, *entries, words=words)


def judge_entries(
    jury: Jury, prompts: CaptionedImages, challenger: Entry, champion: Entry, *, words: str
) -> Contest:
    """All findings; `words` say which prompts they are."""
    count, both = len(prompts), (challenger, champion)
    labels = jury.clusters([*wanted(prompts), *jury.reference.wanted], SPLIT)
    if labels is None:  # each picture is its own
        labels = np.arange(count + len(jury.reference.wanted))
    drawings = labels[:count], labels[count:]
    likeness = {}
    for view in (SMOOTHED, SMOOTHED_AGAIN):
        ours, theirs = (jury.extractors.extract(each.images, view, seed=jury.settings.seed) for each in both)
        reference, damage = jury.reference.features[view], jury.reference.damage[view]
        likeness[view.network] = compare_kid(ours, theirs, reference, drawings=drawings, scale=damage)
    diversity, varied_against = _compare_diversity(jury, prompts, challenger, champion, drawings[0])
    return Contest(
        alignment=compare_shares(*(_all_right(jury, prompts, each) for each in both), clusters=drawings[0]),
        likeness=likeness,
        diversity=diversity,
        varied_against=varied_against,
        prompts=words,
    )


def _all_right(jury: Jury, prompts: CaptionedImages, entry: Entry) -> Bool[np.ndarray, "n"]:
    return np.array([all(image.right.values()) for image in jury.judge(prompts, entry.images)])


def _compare_diversity(
    jury: Jury,
    prompts: CaptionedImages,
    challenger: Entry,
    champion: Entry,
    drawings: Int[np.ndarray, "n"],
) -> tuple[Finding, str]:
    """How much two images of a prompt vary, of what the prompt's own and a training picture of it do."""
    ours, theirs = (
        thumbnail_distances(torch.stack([each.images, each.again], dim=1)) for each in (challenger, champion)
    )
    real = thumbnail_distances(torch.stack([prompts.images, jury.alike.further(prompts, 1)], dim=1))
    if known := [row for row in range(len(prompts)) if jury.alike.rows(prompts, row)]:
        labels = drawings[known]
        return compare_spreads(ours[known], theirs[known], real[known], clusters=labels), "real ones"
    return compare_spreads(ours, theirs, theirs, clusters=drawings), "the champion's"


def _load(cache: ModelCache, bundle: Path) -> LoadedModel:
    refuse_leaks(read_json(bundle / METHOD / "training.json"), method="the registered model")
    ((_, package),) = read_models(bundle).items()
    return cache.load(package, version="to be judged")


def _draw(model: LoadedModel, prompts: CaptionedImages, settings: EvaluateParams) -> Entry:
    captions = sorted(set(prompts.captions))
    states = TextStateCache(captions, model.encoder.tower.encode_text(captions))
    sampler = BatchSampler(model.method, states, settings, model.device)
    return Entry(sampler.draw(prompts), sampler.draw(prompts, repeat=1))

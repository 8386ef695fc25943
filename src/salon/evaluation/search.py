"""One random search over the sampler settings of a method, on prompts of `val`: drawn, judged and charged."""

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from salon.evaluation.footprint import picture_flops
from salon.evaluation.results_cache import ResultsCache
from salon.evaluation.sampling import BatchSampler
from salon.evaluation.search_space import draw_trials
from salon.judging.selection import Selection, Trial, choose
from salon.judging.trials import TrialJury

TIMED_CALLS = 5


def search(
    sampler: BatchSampler, jury: TrialJury, *, trials: int, seed: int, cache: ResultsCache
) -> Selection:
    """Try the method's own settings and others, and choose.

    The method is left with the settings of the last trial.
    """
    method = sampler.method
    tried = draw_trials(method.sampler_settings, trials=trials, seed=seed, most_steps=method.steps_range[1])
    measured = [
        cache.figures(f"trial-{number}", partial(_measure, sampler, jury, number, settings))
        for number, settings in enumerate(tried)
    ]
    terms = [np.array(each.pop("terms")) for each in measured]
    return choose(
        [Trial.from_json(each) for each in measured],
        lambda one, other: jury.difference(terms[one.number], terms[other.number]),
    )


def _measure(
    sampler: BatchSampler, jury: TrialJury, number: int, settings: Mapping[str, float]
) -> dict[str, Any]:
    started = time.perf_counter()
    sampler.method.draw_with(settings)
    images = sampler.draw(jury.prompts)
    again = sampler.draw(jury.twice, repeat=1) if len(jury.twice) else None
    found = jury.look(images, again)
    flops = picture_flops(sampler.method, sampler.states_of(jury.prompts))
    milliseconds = sampler.time_one(jury.prompts, calls=TIMED_CALLS)
    trial = Trial(
        number=number,
        settings=settings,
        likeness=found.likeness,
        alignment=found.alignment,
        diversity=found.diversity,
        picture_flops=flops,
        draw_ms_p50=milliseconds,
        pictures=len(images) + (0 if again is None else len(again)),
        seconds=round(time.perf_counter() - started, 2),
    )
    said = ", ".join(f"{name} {value:g}" for name, value in settings.items())
    figures = f"likeness lost {found.likeness.value:.3f}, all right {found.alignment.value:.1%}"
    varied = f", diversity {found.diversity.value:.2f}" if found.diversity else ""
    print(f"trial {number} ({said}): {figures}{varied}, {milliseconds} ms", flush=True)
    return trial.to_json() | {"terms": found.terms.tolist()}

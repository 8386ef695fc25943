"""Quality against cost: what a method draws, and how fast, at every setting of what it has to trade."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from salon.data.dataset import CaptionedImages
from salon.evaluation.latency import LatencyMeter
from salon.evaluation.results_cache import ResultsCache
from salon.evaluation.sampling import BatchSampler
from salon.judging.alignment import Judged
from salon.judging.jury import Jury
from salon.methods.base import Method
from salon.params import DialParams

GUIDANCE = "guidance_scale"
NO_GUIDANCE = 1.0


def measure_tradeoff(
    knob: str,
    *,
    studio: BatchSampler,
    jury: Jury,
    stopwatch: LatencyMeter,
    prompts: CaptionedImages,
    own: Sequence[Judged],
    own_latency_ms: float,
    progress: ResultsCache,
) -> list[dict[str, Any]]:
    """Quality and latency at every value of `knob` that `evaluate.dial` lists, and at the method's own.

    Args:
        knob: Argument of `Method.sample`.
        own: The verdicts on `prompts` at the method's own settings, which are not drawn again.
    """

    def measure(value: float) -> dict[str, Any]:
        if value == own_value:
            judged, latency_ms = list(own), own_latency_ms
        else:
            judged = jury.look(prompts, studio.draw(prompts, {knob: value}))
            latency_ms = stopwatch.time_setting(knob, value)
        all_right = jury.alignment(judged)["alignment"]["all"]
        print(f"{knob} {value:g}: {all_right['value']:.1%} all right, {latency_ms} ms", flush=True)
        return {"dial": knob, "setting": value, "latency_ms_p50": latency_ms, **all_right}

    own_value = own_setting(studio.method, knob)
    return [
        progress.figures(f"{knob}-{value:g}", partial(measure, value))
        for value in settings_to_try(studio.method, knob, studio.settings.dial)
    ]


def settings_to_try(method: Method, knob: str, listed: DialParams) -> list[float]:
    """The listed values and the method's own, in order; its own alone where the method has no such knob."""
    own = own_setting(method, knob)
    has_knob = knob == method.tradeoff or hasattr(method.config, knob)
    return sorted({own, *getattr(listed, knob)}) if has_knob else [own]


def own_setting(method: Method, knob: str) -> float:
    """Where the knob stands when nobody turns it."""
    return getattr(method.config, knob, NO_GUIDANCE)

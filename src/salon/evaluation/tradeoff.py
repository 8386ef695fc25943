"""Quality against cost: what a method draws, and how fast, at every setting of what it has to trade."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from salon.data.dataset import CaptionedImages
from salon.evaluation.latency import LatencyMeter
from salon.evaluation.results_cache import ResultsCache
from salon.evaluation.sampling import BatchSampler
from salon.judging.alignment import ALL, Judged
from salon.judging.jury import Jury

GUIDANCE = "guidance_scale"
NO_GUIDANCE = 1.0


def measure_tradeoff(
    argument: str,
    *,
    sampler: BatchSampler,
    jury: Jury,
    meter: LatencyMeter,
    prompts: CaptionedImages,
    own: Sequence[Judged],
    own_latency_ms: float,
    cache: ResultsCache,
) -> list[dict[str, Any]]:
    """Quality and latency where `argument` has each value of `evaluate.tradeoff`, and the method's own.

    In order; its own alone where the method has no such argument.

    Args:
        argument: Of `Method.sample`.
        own: What was seen for `prompts` at the method's own settings, which are not drawn again.
    """

    def measure(value: float) -> dict[str, Any]:
        judged, latency_ms = own, own_latency_ms
        if value != own_value:
            judged = jury.judge(prompts, sampler.draw(prompts, {argument: value}))
            latency_ms = meter.time_setting(argument, value)
        all_right = jury.align(judged, "val")[ALL]
        print(f"{argument} {value:g}: {all_right.value:.1%} all right, {latency_ms} ms", flush=True)
        return {"argument": argument, "setting": value, "latency_ms_p50": latency_ms, **all_right.to_json()}

    method = sampler.method
    own_value = getattr(method.config, argument, NO_GUIDANCE)
    has_argument = argument == method.tradeoff or hasattr(method.config, argument)
    values = {own_value, *getattr(sampler.settings.tradeoff, argument)} if has_argument else {own_value}
    return [cache.figures(f"{argument}-{value:g}", partial(measure, value)) for value in sorted(values)]

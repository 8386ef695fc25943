"""Judge one method on captions it never saw drawn, by every witness of the jury, and what a picture costs.

Killed and started again, it goes on: what was drawn is not drawn again, what was timed is not timed again.
"""

from functools import partial

from jaxtyping import UInt8
from torch import Tensor

from salon.data.dataset import CaptionedImages, Dataset
from salon.data.ingest.worlds.base import open_composer
from salon.devices import inference_device
from salon.evaluation.footprint import drawing_cost
from salon.evaluation.latency import LatencyMeter, describe_machine
from salon.evaluation.prompts import prompts_per_split
from salon.evaluation.results_cache import ResultsCache
from salon.evaluation.sampling import BatchSampler, load_trained
from salon.evaluation.sheets import empty_folder, save_samples, save_sheet, save_worst
from salon.fingerprint import fingerprint
from salon.judging.jury import JudgedImages, Jury, judge_source, record
from salon.judging.record import Cost
from salon.params import Params
from salon.paths import Paths
from salon.towers.states import TextStateCache

SOURCES = (
    "codecs",
    "data",
    "evaluation",
    "images.py",
    "inference",
    "judging",
    "methods",
    "nn",
    "seeding.py",
    "stages",
    "towers",
)


def run(params: Params, paths: Paths, name: str) -> None:
    """Write the method's metrics and samples below `reports/`."""
    settings = params.evaluate
    device = inference_device()
    method, ledger = load_trained(params, paths, name, paths.selected(name), device)
    data = Dataset(paths.interim)
    sampler = BatchSampler(method, TextStateCache.load(paths.text_states), settings, device)
    composer = open_composer(params.ingest, archive=paths.root / params.ingest.path, seed=params.seed)
    jury = Jury(data, paths, settings, device=device, composer=composer, channel=sampler.channel)
    cache = _open_cache(params, paths, name, codec=method.config.codec)
    folder = empty_folder(paths.samples(name))

    def draw(split: str, asked: CaptionedImages, repeat: int) -> UInt8[Tensor, "n 3 h w"]:
        file = split.replace("/", "-") + (f"-{repeat}" if repeat else "")
        return cache.pictures(file, partial(sampler.draw, asked, repeat=repeat))

    prompts = prompts_per_split(data, settings.pictures)
    seen: dict[str, JudgedImages] = {}
    for split, found in judge_source(jury, prompts, draw):
        seen[split] = found
        save_samples(folder / split.replace("/", "-"), found.judged, found.images)
        right = ", ".join(f"{key} {share.value:.1%}" for key, share in found.figures.alignment.items())
        print(f"{name} on {split}: {right}", flush=True)
    pairs = seen["test"].nearest_pairs
    save_sheet(folder / "memorisation.png", pairs, columns=len(pairs) // 2)
    reported = {split: (found.judged, found.images) for split, found in seen.items() if split != "val"}
    save_worst(folder / "worst", reported)

    meter = LatencyMeter(paths, name, prompts["val"].captions, repeats=settings.latency_repeats)
    speed = cache.figures("speed", meter.time_own)
    cost = Cost(
        train_flops=ledger["train_flops"],
        train_minutes=ledger["train_minutes"],
        images_seen=ledger["own"]["images_seen"],
        peak_memory_gb=round(ledger["own"]["peak_memory_gb"], 3),
        **cache.figures("drawing", lambda: drawing_cost(method, sampler.states_of(prompts["val"]))),
        selection_flops=ledger["selection"]["flops"],
        selection_minutes=ledger["selection"]["minutes"],
        **speed,
        **cache.figures("machine", describe_machine),
    )
    record(seen, cost=cost).save(paths.metrics(name))
    cache.discard()


def _open_cache(params: Params, paths: Paths, name: str, *, codec: str) -> ResultsCache:
    inputs = [paths.interim, paths.text_states, paths.clip, paths.codec(codec), paths.selected(name)]
    key = fingerprint(
        [params.evaluate.model_dump(), describe_machine()],  # seconds of one machine
        files=[*inputs, paths.scorer, paths.retriever],
        sources=SOURCES,
    )
    return ResultsCache(paths.scratch / "evaluate", name, key=key)

"""Judge one method on captions it never saw drawn, by every witness of the jury, and what a picture costs.

Killed and started again, it goes on: what was drawn is not drawn again, what was timed is not timed again.
"""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from salon.data.dataset import Dataset
from salon.devices import inference_device
from salon.evaluation.latency import LatencyMeter, describe_machine
from salon.evaluation.prompts import prompts_per_split, select_first
from salon.evaluation.results_cache import ResultsCache
from salon.evaluation.sampling import BatchSampler
from salon.evaluation.tradeoff import GUIDANCE, measure_tradeoff
from salon.files import read_json, write_json
from salon.fingerprint import fingerprint
from salon.images import image_grid, to_float
from salon.inference.bundle import METHOD, read_models
from salon.inference.model import ModelCache
from salon.judging.alignment import Judged
from salon.judging.jury import DIVERSITY_PICTURES, DIVERSITY_PROMPTS, Jury
from salon.judging.leakage import refuse_leaks
from salon.methods.base import FrozenNets, load_method, read_config
from salon.params import Params
from salon.paths import Paths
from salon.towers.states import TextStateCache

GRID_PICTURES = 48
WORST_PICTURES = 8  # a row of the sheet
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
    """Write the method's metrics, dials and samples below `reports/`."""
    settings = params.evaluate
    device = inference_device()
    _, config = read_config(name, params.method(name))
    frozen = FrozenNets.load(codec=paths.codec(config.codec), clip=paths.clip)
    frozen.to(device)
    method = load_method(paths.method(name), frozen).to(device)
    ledger = read_json(paths.method(name) / "training.json")
    refuse_leaks(ledger, method=name)
    data = Dataset(paths.interim)
    jury = Jury.open(paths, settings, data=data, device=device)
    studio = BatchSampler(method, TextStateCache.load(paths.text_states), settings, device)
    progress = _open_progress(params, paths, name, codec=config.codec)
    folder = paths.samples(name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    metrics: dict[str, object] = {}
    seen: dict[str, tuple[list[Judged], torch.Tensor]] = {}
    prompts = prompts_per_split(data, settings.pictures)
    for split, asked in prompts.items():
        images = progress.pictures(split.replace("/", "-"), partial(studio.draw, asked))
        judged = jury.look(asked, images)
        seen[split] = judged, images
        _save_samples(folder / split.replace("/", "-"), judged, images)
        figures = jury.alignment(judged)
        if split == "val":
            figures |= jury.likeness(images)
        if split == "test":
            repeated = partial(studio.draw, select_first(asked, DIVERSITY_PROMPTS))
            further = [
                progress.pictures(f"test-{repeat}", partial(repeated, repeat=repeat))
                for repeat in range(1, DIVERSITY_PICTURES)
            ]
            figures |= jury.fidelity(images, further)
            copies = jury.memorisation(images)
            metrics["memorisation"] = copies.to_json()
            _save_pairs(folder / "memorisation.png", jury.pair_up(images, copies))
        _nest(metrics, split, figures)
        print(
            f"{name} on {split}: "
            + ", ".join(f"{k} {v['value']:.1%}" for k, v in figures["alignment"].items()),
            flush=True,
        )
    _save_worst(folder / "worst", {split: found for split, found in seen.items() if split != "val"})

    stopwatch = LatencyMeter(paths, name, prompts["val"].captions, repeats=settings.latency_repeats)
    speed = progress.figures("speed", stopwatch.time_own)
    metrics["cost"] = {
        "train_flops": ledger["train_flops"],
        "train_minutes": ledger["train_minutes"],
        "parameters": ledger["parameters"],
        "images_seen": ledger["own"]["images_seen"],
        "peak_memory_gb": round(ledger["own"]["peak_memory_gb"], 3),
        **speed,
        **progress.figures("machine", describe_machine),
    }
    few = select_first(prompts["val"], settings.dial_pictures)
    for knob, file in ((method.tradeoff, paths.dial(name)), (GUIDANCE, paths.guidance(name))):
        table = measure_tradeoff(
            knob,
            studio=studio,
            jury=jury,
            stopwatch=stopwatch,
            prompts=few,
            own=seen["val"][0][: len(few)],
            own_latency_ms=speed["latency_ms_p50"],
            progress=progress,
        )
        write_json(file, table)
    write_json(paths.metrics(name), metrics)
    progress.discard()


def _open_progress(params: Params, paths: Paths, name: str, *, codec: str) -> ResultsCache:
    inputs = [paths.interim, paths.text_states, paths.clip, paths.codec(codec), paths.method(name)]
    key = fingerprint(
        [params.evaluate.model_dump(), describe_machine()],  # seconds of one machine
        files=[*inputs, paths.scorer, paths.retriever],
        sources=SOURCES,
    )
    return ResultsCache(paths.scratch / "evaluate", name, key=key)


def judge_bundle(params: Params, paths: Paths, bundle: Path) -> dict[str, float]:
    """Per validation prompt, whether the picture of a registered model is all right, by today's jury.

    Raises:
        SalonError: the installed package is not the model's code, or it was trained with what would judge it.
    """
    device = inference_device()
    refuse_leaks(read_json(bundle / METHOD / "training.json"), method="the registered model")
    ((_, package),) = read_models(bundle).items()
    model = ModelCache().load(package, version="to be judged")
    data = Dataset(paths.interim)
    prompts = prompts_per_split(data, params.evaluate.pictures)["val"]
    captions = sorted(set(prompts.captions))
    cache = TextStateCache(captions, model.encoder.tower.encode_text(captions))
    jury = Jury.open(paths, params.evaluate, data=data, device=device)
    studio = BatchSampler(model.method.to(device), cache, params.evaluate, device)
    return {
        picture.id: float(all(picture.right.values())) for picture in jury.look(prompts, studio.draw(prompts))
    }


def _nest(metrics: dict[str, object], split: str, figures: object) -> None:
    head, _, tail = split.partition("/")
    if tail:
        inner = metrics.setdefault(head, {})
        assert isinstance(inner, dict)
        inner[tail] = figures
    else:
        metrics[head] = figures


def _save_samples(stem: Path, judged: Sequence[Judged], images: torch.Tensor) -> None:
    write_json(stem.with_suffix(".json"), [picture.to_json() for picture in judged])
    zoom = max(1, 96 // images.shape[-1])
    image_grid(to_float(images[:GRID_PICTURES]), columns=8, zoom=zoom).save(stem.with_suffix(".png"))


def _save_worst(stem: Path, seen: Mapping[str, tuple[Sequence[Judged], torch.Tensor]]) -> None:
    """Of all judged pictures those with the most attributes wrong; no sheet where nothing is."""
    wrong = [
        (-sum(not right for right in picture.right.values()), number, place, split)
        for number, (split, (judged, _)) in enumerate(seen.items())
        for place, picture in enumerate(judged)
        if not all(picture.right.values())
    ]
    worst = [(seen[split], split, place) for _, _, place, split in sorted(wrong)[:WORST_PICTURES]]
    rows = [{"split": split, **judged[place].to_json()} for (judged, _), split, place in worst]
    write_json(stem.with_suffix(".json"), rows)
    if worst:
        images = torch.stack([images[place] for (_, images), _, place in worst])
        zoom = max(1, 96 // images.shape[-1])
        image_grid(to_float(images), columns=WORST_PICTURES, zoom=zoom).save(stem.with_suffix(".png"))


def _save_pairs(path: Path, pairs: torch.Tensor) -> None:
    """Generated pictures above the training pictures they are nearest to."""
    zoom = max(1, 96 // pairs.shape[-1])
    image_grid(to_float(pairs), columns=len(pairs) // 2, zoom=zoom).save(path)

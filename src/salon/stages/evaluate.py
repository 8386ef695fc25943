"""Judge one method on captions it never saw drawn, by every witness of the jury, and what a picture costs.

Killed and started again, it goes on: what was drawn is not drawn again, what was timed is not timed again.
"""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from salon.data.fingerprint import fingerprint
from salon.data.loader import CaptionedImages, load_split, to_float
from salon.data.shards import read_tables
from salon.data.splits import novelty_kind, seen_pairs
from salon.jsonfile import read_json, write_json
from salon.judging.alignment import Judged
from salon.judging.firewall import refuse_leaks
from salon.judging.jury import DIVERSITY_PICTURES, DIVERSITY_PROMPTS, Jury
from salon.judging.scorer import select
from salon.methods.base import Frozen, load_method, read_config
from salon.params import Params
from salon.paths import Paths
from salon.serving.bundle import METHOD, read_exhibits
from salon.serving.champion import Loader
from salon.stages.dial import GUIDANCE, turn_dial
from salon.stages.progress import Progress
from salon.stages.stopwatch import Stopwatch, describe_machine
from salon.stages.studio import Studio
from salon.text.states import TextStateCache
from salon.training.devices import inference_device
from salon.training.grids import image_grid

GRID_PICTURES = 48
WORST_PICTURES = 8  # a row of the sheet
SOURCES = ("codecs", "data", "judging", "methods", "nn", "text", "serving", "stages")


def run(params: Params, paths: Paths, name: str) -> None:
    """Write the method's metrics, dials and samples below `reports/`."""
    settings = params.evaluate
    device = inference_device()
    _, config = read_config(name, params.method(name))
    frozen = Frozen.load(codec=paths.codec(config.codec), clip=paths.clip)
    frozen.to(device)
    method = load_method(paths.method(name), frozen).to(device)
    ledger = read_json(paths.method(name) / "training.json")
    refuse_leaks(ledger, method=name)
    jury = Jury.open(paths, settings, device=device)
    studio = Studio(method, TextStateCache.load(paths.text_states), settings, device)
    progress = _open_progress(params, paths, name, codec=config.codec)
    folder = paths.samples(name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    metrics: dict[str, object] = {}
    seen: dict[str, tuple[list[Judged], torch.Tensor]] = {}
    prompts = choose_prompts(paths, settings.pictures)
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

    stopwatch = Stopwatch(paths, name, prompts["val"].captions, repeats=settings.latency_repeats)
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
    for knob, file in ((method.dial, paths.dial(name)), (GUIDANCE, paths.guidance(name))):
        table = turn_dial(
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


def _open_progress(params: Params, paths: Paths, name: str, *, codec: str) -> Progress:
    inputs = [paths.interim, paths.text_states, paths.clip, paths.codec(codec), paths.method(name)]
    key = fingerprint(
        [params.evaluate.model_dump(), describe_machine()],  # seconds of one machine
        files=[*inputs, paths.scorer, paths.retriever],
        sources=SOURCES,
    )
    return Progress(paths.scratch / "evaluate", name, key=key)


def judge_bundle(params: Params, paths: Paths, bundle: Path) -> dict[str, float]:
    """Per validation prompt, whether the picture of a registered model is all right, by today's jury.

    Raises:
        SalonError: the installed package is not the model's code, or it was trained with what would judge it.
    """
    device = inference_device()
    refuse_leaks(read_json(bundle / METHOD / "training.json"), method="the registered model")
    ((_, exhibit),) = read_exhibits(bundle).items()
    champion = Loader().load(exhibit, version="to be judged")
    prompts = choose_prompts(paths, params.evaluate.pictures)["val"]
    captions = sorted(set(prompts.captions))
    cache = TextStateCache(captions, champion.captions.tower.encode_text(captions))
    jury = Jury.open(paths, params.evaluate, device=device)
    studio = Studio(champion.method.to(device), cache, params.evaluate, device)
    return {
        picture.id: float(all(picture.right.values())) for picture in jury.look(prompts, studio.draw(prompts))
    }


def choose_prompts(paths: Paths, count: int) -> dict[str, CaptionedImages]:
    """`val`, `test` and each kind of `novel`: the first `count` rows of each."""
    training = read_tables(paths.interim, ["train"], columns=["attributes"])
    train_pairs = seen_pairs([dict(pairs) for pairs in training["attributes"].to_pylist()])
    chosen = {split: select_first(load_split(paths.interim, split), count) for split in ("val", "test")}
    novel = load_split(paths.interim, "novel")
    kinds = [novelty_kind(row, train_pairs) for row in novel.attributes]
    for kind in sorted({kind for kind in kinds if kind}):
        chosen[f"novel/{kind}"] = select_first(select(novel, [k == kind for k in kinds]), count)
    return chosen


def select_first(data: CaptionedImages, count: int) -> CaptionedImages:
    """The first `count` rows."""
    return select(data, [i < count for i in range(len(data))])


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

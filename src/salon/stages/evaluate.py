"""Judge one method on captions it never saw drawn, by every witness of the jury, and what a picture costs."""

import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from salon.codecs import load_codec
from salon.data.loader import CaptionedImages, load_split, to_float, to_uint8
from salon.data.splits import novelty_kind, seen_pairs
from salon.errors import SalonError
from salon.jsonfile import read_json, write_json
from salon.judging.alignment import Judged
from salon.judging.firewall import refuse_leaks
from salon.judging.jury import DIVERSITY_PICTURES, DIVERSITY_PROMPTS, Jury
from salon.judging.scorer import select
from salon.methods.base import Frozen, Method, load_method, read_config
from salon.params import EvaluateParams, Params
from salon.paths import Paths
from salon.serving.bundle import CLIP, CODEC, METHOD
from salon.text.states import TextStateCache, TextStates
from salon.text.tower import ClipTower
from salon.training.grids import image_grid, seeded_generators

GRID_PICTURES = 48
LATENCY_BATCH = 16
WARMUP_CALLS = 2  # the first calls allocate


def run(params: Params, paths: Paths, name: str) -> None:
    """Write `reports/metrics/<name>.json`, `reports/dial/<name>.json` and `reports/samples/<name>/`."""
    settings = params.evaluate
    device = "cuda" if torch.cuda.is_available() else "cpu"
    _, config = read_config(name, params.method(name))
    frozen = Frozen.load(codec=paths.codec(config.codec), clip=paths.clip)
    frozen.to(device)
    method = load_method(paths.method(name), frozen).to(device)
    ledger = read_json(paths.method(name) / "training.json")
    refuse_leaks(ledger, method=name)
    jury = Jury.open(paths, settings, device=device)
    studio = _Studio(method, jury, TextStateCache.load(paths.text_states), settings, device)
    folder = paths.samples(name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    metrics: dict[str, object] = {}
    for split, prompts in choose_prompts(paths, settings.pictures).items():
        images = studio.draw(prompts)
        judged = jury.look(prompts, images)
        _save_samples(folder / split.replace("/", "-"), judged, images)
        figures = jury.alignment(judged)
        if split == "test":
            few = select_first(prompts, DIVERSITY_PROMPTS)
            further = [studio.draw(few, repeat=repeat) for repeat in range(1, DIVERSITY_PICTURES)]
            figures |= jury.fidelity(images, further)
            copies = jury.memorisation(images)
            metrics["memorisation"] = copies.to_json()
            _save_pairs(folder / "memorisation.png", jury.pair_up(images, copies))
        _nest(metrics, split, figures)
        print(
            f"{name} on {split}: "
            + ", ".join(f"{k} {v['value']:.1%}" for k, v in figures["alignment"].items())
        )

    metrics["cost"] = {
        "train_flops": ledger["train_flops"],
        "train_minutes": ledger["train_minutes"],
        "parameters": ledger["parameters"],
        "images_seen": ledger["own"]["images_seen"],
        "peak_memory_gb": round(ledger["own"]["peak_memory_gb"], 3),
        **studio.time_sampling(),
    }
    write_json(paths.metrics(name), metrics)
    dial = studio.turn_dial(select_first(load_split(paths.interim, "val"), settings.dial_pictures))
    write_json(paths.dial(name), dial)


def judge_bundle(params: Params, paths: Paths, bundle: Path) -> dict[str, float]:
    """Per validation prompt, whether the picture of a registered model is all right, by today's jury.

    Raises:
        SalonError: the model does not fit this version of Salon, or was trained with what would judge it.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    refuse_leaks(read_json(bundle / METHOD / "training.json"), method="the registered model")
    try:
        tower = ClipTower.load(bundle / CLIP)
        frozen = Frozen(load_codec(bundle / CODEC), tower.towers)
        method = load_method(bundle / METHOD, frozen)
    except (RuntimeError, TypeError, KeyError) as error:  # weights of other shapes, another config
        raise SalonError(f"it does not fit this version of Salon ({type(error).__name__})") from None
    prompts = choose_prompts(paths, params.evaluate.pictures)["val"]
    captions = sorted(set(prompts.captions))
    cache = TextStateCache(captions, tower.encode_text(captions))
    frozen.to(device)
    jury = Jury.open(paths, params.evaluate, device=device)
    studio = _Studio(method.to(device), jury, cache, params.evaluate, device)
    return {
        picture.id: float(all(picture.right.values())) for picture in jury.look(prompts, studio.draw(prompts))
    }


def choose_prompts(paths: Paths, count: int) -> dict[str, CaptionedImages]:
    """`val`, `test` and each kind of `novel`: the first `count` rows of each."""
    train_pairs = seen_pairs(load_split(paths.interim, "train").attributes)
    chosen = {split: select_first(load_split(paths.interim, split), count) for split in ("val", "test")}
    novel = load_split(paths.interim, "novel")
    kinds = [novelty_kind(row, train_pairs) for row in novel.attributes]
    for kind in sorted({kind for kind in kinds if kind}):
        chosen[f"novel/{kind}"] = select_first(select(novel, [k == kind for k in kinds]), count)
    return chosen


def select_first(data: CaptionedImages, count: int) -> CaptionedImages:
    """The first `count` rows."""
    return select(data, [i < count for i in range(len(data))])


class _Studio:
    """The method at work: pictures as a user would get them, and how long they take."""

    def __init__(
        self, method: Method, jury: Jury, cache: TextStateCache, settings: EvaluateParams, device: str
    ) -> None:
        self.method, self.jury, self.cache, self.settings, self.device = method, jury, cache, settings, device

    def draw(
        self, prompts: CaptionedImages, dial: Mapping[str, int] | None = None, *, repeat: int = 0
    ) -> torch.Tensor:
        """One picture per prompt (uint8); `repeat` numbers further pictures of the same prompts."""
        states = self.cache.states[self.cache.indices(prompts.captions)]
        first = repeat * self.settings.pictures  # noise that no judged picture has started from
        parts = [
            self._sample(states[start : start + self.settings.batch_size], first + start, dial)
            for start in range(0, len(prompts), self.settings.batch_size)
        ]
        return torch.cat(parts)

    def time_sampling(self) -> dict[str, float]:
        """Latency of one picture alone, and pictures per second in batches of 16."""
        one = self.time_batches(1)
        many = self.time_batches(LATENCY_BATCH)
        return {
            "latency_ms_p50": round(1000 * statistics.median(one), 2),
            "latency_ms_p95": round(1000 * statistics.quantiles(one, n=20)[-1], 2),
            "images_per_second_b16": round(LATENCY_BATCH / statistics.median(many), 2),
        }

    def time_batches(self, batch: int, dial: Mapping[str, int] | None = None) -> list[float]:
        """Seconds per call, from encoded captions to bytes of pixels."""
        states = self.cache.states[torch.arange(batch) % len(self.cache.captions)]
        durations = []
        for repeat in range(self.settings.latency_repeats + WARMUP_CALLS):
            started = time.perf_counter()
            self._sample(states, 0, dial)  # ends on the CPU, so that a GPU has finished
            if repeat >= WARMUP_CALLS:
                durations.append(time.perf_counter() - started)
        return durations

    def turn_dial(self, prompts: CaptionedImages) -> list[dict[str, Any]]:
        """Quality and latency at every value of the method's own dial that `evaluate.dial` lists."""
        table: list[dict[str, Any]] = []
        name = self.method.dial
        for value in getattr(self.settings.dial, name):
            judged = self.jury.look(prompts, self.draw(prompts, {name: value}))
            all_right = self.jury.alignment(judged)["alignment"]["all"]
            latency = round(1000 * statistics.median(self.time_batches(1, {name: value})), 2)
            table.append({"dial": name, "setting": value, "latency_ms_p50": latency, **all_right})
            print(f"{name} {value}: {all_right['value']:.1%} all right, {latency} ms")
        return table

    def _sample(self, text: TextStates, first: int, dial: Mapping[str, int] | None) -> torch.Tensor:
        generators = seeded_generators(self.settings.seed, len(text), first=first)
        images = self.method.sample(text.to(self.device), generator=generators, **(dial or {}))
        return to_uint8(images).cpu()


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


def _save_pairs(path: Path, pairs: torch.Tensor) -> None:
    """Generated pictures above the training pictures they are nearest to."""
    zoom = max(1, 96 // pairs.shape[-1])
    image_grid(to_float(pairs), columns=len(pairs) // 2, zoom=zoom).save(path)

"""How fast does everything train, how fast does each method draw, and how much of the machine does it use?

For each codec, the towers and each method of params.yaml, with random pictures and captions of the default
world's shapes (speed does not depend on what the weights know): training pictures/s and GFLOP/s of the real
loop (Lightning, averaged weights and all), the share of the machine's matmul peak measured in the same run,
and the share of the loop's time that is neither loss, backward pass nor optimizer ("rest"); then sampling
with the config's defaults, alone and in batches of 16. Codecs and towers have the first columns only.

    python benchmarks/training.py --threads 2
    python benchmarks/training.py --device cuda          # bf16 there, as in training
    python benchmarks/training.py --device cuda --profile emoji64

On a GPU "rest" is left out, since losses and optimizers asked for one by one take longer than the loop, which
replays them as a graph; "eager" is the loop without graphs, in pictures/s.
"""

import argparse
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import before_torch  # noqa: F401
import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from random_world import REPOSITORY, World
from stopwatch import Spread, describe_machine, finish, interleave, matmul_peak, ratio

from salon.codecs import DiscreteCodec
from salon.data.batches import BatchSource, ImageBatches
from salon.devices import resolve_precision
from salon.images import to_uint8
from salon.methods.base import Method
from salon.nn.trainable import Trainable
from salon.params.profiles import lay_over
from salon.paths import Paths
from salon.seeding import seeded_generators
from salon.towers.contrastive import ContrastiveTask, PairBatches
from salon.towers.states import Batch
from salon.towers.tokenizer import train_tokenizer
from salon.towers.tower import build_towers
from salon.training.batches import Steps
from salon.training.method import MethodBatches, count_cost
from salon.training.module import Optimization, TrainingModule
from salon.training.trainer import count_step

SEED = 0
SAMPLE_BATCH = 16
WARMUP_STEPS = 10


def header(device: torch.device) -> str:
    """Titles of the columns."""
    return (
        f"{'trained':<12} {'batch':>5} {'GFLOP/step':>10} {'pictures/s':>10} {'GFLOP/s':>8} {'of peak':>7} "
        f"{'rest' if device.type == 'cpu' else 'eager':>6} {'ms at 1':>8} {'per s at 16':>11} "
        f"{'16 against 1':>20}"
    )


class Stopwatch(Callback):
    """Times whole steps from the end of the warm-up until the time is over."""

    def __init__(self, seconds: float, device: torch.device) -> None:
        self.limit, self.device = seconds, device
        self.steps, self.seconds = 0, 0.0

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        step = trainer.fit_loop.epoch_loop.batch_progress.current.completed + 1
        if step < WARMUP_STEPS:
            return
        if step == WARMUP_STEPS:
            finish(self.device)
            self._started = time.perf_counter()
        elif time.perf_counter() - self._started >= self.limit:
            finish(self.device)
            self.steps, self.seconds = step - WARMUP_STEPS, time.perf_counter() - self._started
            trainer.should_stop = True


def time_loop(
    task: Trainable,
    source: BatchSource,
    optimization: Optimization,
    *,
    seconds: float,
    device: torch.device,
    cuda_graphs: bool = True,
) -> float:
    """Seconds per step of the loop that trains everything, logger and checkpoints apart."""
    total_steps = 1_000_000
    module = TrainingModule(
        task, source, optimization=optimization, total_steps=total_steps, seed=SEED, cuda_graphs=cuda_graphs
    )
    clock = Stopwatch(seconds, device)
    trainer = L.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        precision=resolve_precision("auto") if device.type == "cuda" else "32-true",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[clock],
    )
    trainer.fit(module, Steps(source, total_steps))
    return clock.seconds / clock.steps


def small_networks(world: World) -> Iterator[tuple[str, Trainable, BatchSource, float]]:
    """What is trained before the methods: name, task, data and learning rate."""
    for name in world.params.codecs:
        codec = world.codec(name).train().requires_grad_(True)
        assert isinstance(codec, DiscreteCodec)
        source = ImageBatches(world.data.images, batch_size=codec.config.batch_size, seed=SEED)
        yield f"codec-{name}", codec.task(), source, codec.config.lr
    settings = world.params.clip
    tokenizer = train_tokenizer(
        world.cache.captions, vocab_size=settings.vocab_size, max_tokens=settings.max_tokens
    )
    pairs = PairBatches(world.data, tokenizer, settings, seed=SEED)
    yield "towers", ContrastiveTask(build_towers(settings, tokenizer)), pairs, settings.lr


def time_arithmetic(method: Method, world: World, *, repeats: int, device: torch.device) -> float:
    """Seconds per step of nothing but losses, backward passes and optimizers, on a batch that lies ready."""
    rows = torch.arange(method.config.batch_size) % len(world.data)
    images = (world.data.images[rows].float() / 127.5 - 1).to(device)
    text = world.cache.states[world.cache.indices([world.data.captions[row] for row in rows.tolist()])]
    text = text.to(device)
    with torch.no_grad():
        batch = Batch(images, text, method.precompute(images))
    generator = torch.Generator(device).manual_seed(SEED)
    optimizers = [
        torch.optim.AdamW(method.parameters_of(objective), lr=1e-5, betas=method.config.betas, fused=True)
        for objective in method.objectives
    ]

    def step() -> None:
        for objective, optimizer in zip(method.objectives, optimizers, strict=True):
            with autocast(device):
                losses = method.losses(batch, objective=objective, generator=generator)
            optimizer.zero_grad(set_to_none=True)
            losses.total.backward()
            torch.nn.utils.clip_grad_norm_(method.parameters_of(objective), 1.0)
            optimizer.step()

    return Spread.of(interleave({"step": step}, repeats=repeats, device=device)["step"]).median


def time_sampling(
    method: Method, world: World, *, repeats: int, device: torch.device
) -> tuple[float, float, Spread]:
    """Seconds per picture alone and in a batch, and how many times as many pictures/s the batch gives."""
    method.eval()

    def sample(count: int) -> torch.Tensor:
        text = world.cache.states[torch.arange(count) % len(world.cache.captions)].to(device)
        images = method.sample(text, generator=seeded_generators(SEED, count))
        return to_uint8(images).cpu()

    runs = {"one": lambda: sample(1), "many": lambda: sample(SAMPLE_BATCH)}
    seconds = interleave(runs, repeats=repeats, device=device)
    each = [value / SAMPLE_BATCH for value in seconds["many"]]
    return Spread.of(seconds["one"]).median, Spread.of(each).median, ratio(seconds["one"], each)


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """bf16 on GPUs, as training has it."""
    if device.type == "cpu":
        return nullcontext()
    return torch.autocast("cuda", torch.bfloat16, cache_enabled=False)  # as Lightning has it


def speed(name: str, batch_size: int, step_flops: float, loop: float, peak: float) -> str:
    """The columns that everything that is trained has."""
    return (
        f"{name:<12} {batch_size:>5} {step_flops / 1e9:>10.2f} {batch_size / loop:>10.0f} "
        f"{step_flops / loop / 1e9:>8.1f} {step_flops / loop / peak:>7.1%}"
    )


def main() -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", help="all of params.yaml when not given")
    parser.add_argument("--profile", help="of profiles/, laid over params.yaml")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--seconds", type=float, default=5.0, help="of training per method")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # each Trainer tells what it has not found
    warnings.filterwarnings("ignore", module="lightning")
    device = torch.device(arguments.device)

    world = World.draw(lay_over(Paths(REPOSITORY), arguments.profile)[1] if arguments.profile else None)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    peak = matmul_peak(device, dtype)
    print(f"{describe_machine(device)}; matmul peak {peak / 1e9:.0f} GFLOP/s, {dtype}")
    print(header(device))
    if not arguments.methods:
        for name, task, source, lr in small_networks(world):
            step_flops = count_step(task, source, seed=SEED)
            loop = time_loop(task, source, Optimization(lr=lr), seconds=arguments.seconds, device=device)
            print(speed(name, source.batch_size, step_flops, loop, peak), flush=True)
    for name in arguments.methods or world.params.methods:
        method = world.method(name)
        step_flops = count_cost(method, world.data, world.cache, seed=SEED).step_flops
        optimization = Optimization.from_config(method.config)
        source = MethodBatches(method, world.data, world.cache, seed=SEED)
        loop = time_loop(method, source, optimization, seconds=arguments.seconds, device=device)
        method.frozen.to(device)
        method.to(device)
        if device.type == "cpu":
            arithmetic = time_arithmetic(method, world, repeats=arguments.repeats, device=device)
            beside = f"{max(0.0, 1 - arithmetic / loop):.0%}"
        else:
            again = world.method(name)
            eager = time_loop(
                again,
                MethodBatches(again, world.data, world.cache, seed=SEED),
                optimization,
                seconds=arguments.seconds,
                device=device,
                cuda_graphs=False,
            )
            beside = f"{method.config.batch_size / eager:.0f}"
        one, each, gain = time_sampling(method, world, repeats=arguments.repeats, device=device)
        print(
            f"{speed(name, source.batch_size, step_flops, loop, peak)} {beside:>6} "
            f"{1000 * one:>8.1f} {1 / each:>11.1f} {gain!s:>20}",
            flush=True,
        )
    again = matmul_peak(device, dtype)
    print(f"matmul peak once more: {again / 1e9:.0f} GFLOP/s; when the two differ, the machine was not quiet")


if __name__ == "__main__":
    main()

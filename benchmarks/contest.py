"""Contenders, the questions that they are asked, and what each of ours is asked to do."""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from random_world import World
from stopwatch import Run, Spread, count_flops, fastest, interleave, ratio
from torch import Tensor, nn

from salon.codecs.vqvae import VqVae
from salon.methods.base import Method
from salon.seeding import seeded_generators
from salon.towers.states import Batch

BATCH = 16
CPU = torch.device("cpu")


@dataclass
class Contender:
    """A network, and what it is asked to do in one or several ways of which the fastest counts."""

    name: str
    network: Iterable[nn.Module]
    """Whose parameters are compared."""
    ways: dict[str, Run]

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for module in self.network for parameter in module.parameters())


@dataclass
class Question:
    """Contenders, ours first."""

    title: str
    contenders: list[Contender]

    def answer(self, *, repeats: int) -> None:
        """Time all and print a line each."""
        runs, flops = {}, {}
        for contender in self.contenders:
            way = (
                fastest(contender.ways, device=CPU) if len(contender.ways) > 1 else next(iter(contender.ways))
            )
            label = f"{contender.name}, {way}" if way else contender.name
            runs[label], flops[label] = contender.ways[way], count_flops(contender.ways[way])
        seconds = interleave(runs, repeats=repeats, device=CPU)
        print(f"\n{self.title}")
        print(
            f"{'':<62} {'parameters':>10} {'GFLOP':>7} {'ms':>8} {'GFLOP/s':>8}  salon is ... times as fast"
        )
        ours, *_ = runs
        for label, contender in zip(runs, self.contenders, strict=True):
            median = Spread.of(seconds[label]).median
            gain = "" if label == ours else str(ratio(seconds[label], seconds[ours]))
            print(
                f"{label:<62} {contender.parameters / 1e6:>8.2f} M {flops[label] / 1e9:>7.3f} "
                f"{1000 * median:>8.2f} {flops[label] / median / 1e9:>8.1f}  {gain}",
                flush=True,
            )


def training_step(module: nn.Module, loss: Callable[[], Tensor]) -> Run:
    """Loss, backward pass, clipping and optimizer, the same for all."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        module.train()
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()

    return step


def our_step(method: Method, world: World) -> Run:
    """Our training step on the first pictures of `world`."""
    images = world.data.images[:BATCH].float() / 127.5 - 1
    text = world.cache.states[torch.arange(BATCH)]
    with torch.no_grad():
        batch = Batch(images, text, method.precompute(images))
    generator = torch.Generator().manual_seed(0)
    return training_step(
        method,
        lambda: method.losses(batch, objective="model", generator=generator).total,
    )


def our_samples(method: Method, world: World, *, batch: int, guidance_scale: float, steps: int | None) -> Run:
    """Our sampler on the first captions of `world`."""
    text = world.cache.states[torch.arange(batch)]
    drawing = copy.deepcopy(method).eval().requires_grad_(False)  # as it is loaded to serve

    def sample() -> Tensor:
        return drawing.sample(
            text,
            generator=seeded_generators(0, batch),
            guidance_scale=guidance_scale,
            num_inference_steps=steps,
        )

    return sample


class CodesOnly(VqVae):
    """A codec that leaves codes as they are: what predicts them is timed alone."""

    def decode(self, latents: Tensor) -> Tensor:
        return latents


def codes_only(world: World) -> CodesOnly:
    """The codes of codec `vqvae` of params.yaml."""
    codec = world.codec("vqvae")
    assert isinstance(codec, VqVae)
    return CodesOnly(codec.config).eval().requires_grad_(False)

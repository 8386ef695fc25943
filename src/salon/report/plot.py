"""Coordinates of small SVG plots: points with intervals over a logarithmic or a linear axis."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from salon.judging.selection import Trial
from salon.judging.statistics import Estimate
from salon.report.figures import CodecFigures, MethodFigures

WIDTH, HEIGHT = 360, 220  # small units, so that the labels stay readable on a phone
LEFT, RIGHT, TOP, BOTTOM = 38, 12, 12, 34  # margins
MOST_GAPS = 6  # between the marks of a linear axis
LADDER = [digit * 10.0**power for power in range(-3, 7) for digit in (1, 2, 5)]


class Point(NamedTuple):
    """A figure and its interval, as measured; in SVG units once it is laid out."""

    x: float
    y: float
    y_low: float
    y_high: float


@dataclass(frozen=True)
class Line:
    """What is drawn in one color."""

    name: str
    points: list[Point]
    hue: int
    """Number of its color."""
    dashed: bool = False
    joined: bool = True
    large: int | None = None
    """Number of the point that stands out."""

    @property
    def path(self) -> str:
        return " ".join(f"{point.x},{point.y}" for point in self.points)


@dataclass(frozen=True)
class Plot:
    """Positions in SVG units, ready to be drawn."""

    x_title: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[Line]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


def plot_tradeoff(methods: Sequence[MethodFigures]) -> Plot | None:
    """Likeness lost on `val` over the time of a picture, at every setting that was tried.

    `None` when no method tried two.
    """
    return _plot_trials(methods, lambda trial: trial.draw_ms_p50, x_title="ms a picture", logarithmic=True)


def plot_guidance(methods: Sequence[MethodFigures]) -> Plot | None:
    """Likeness lost on `val` over the guidance scale. `None` where no method has guidance."""
    return _plot_trials(methods, lambda trial: trial.settings.get("guidance_scale"), x_title="guidance scale")


def plot_variety(methods: Sequence[MethodFigures]) -> Plot | None:
    """Likeness lost on `val` over diversity. `None` where that cannot be measured."""
    return _plot_trials(
        methods,
        lambda trial: 100 * trial.diversity.value if trial.diversity else None,
        x_title="diversity, % of real pictures",
    )


def _plot_trials(
    methods: Sequence[MethodFigures],
    x: Callable[[Trial], float | None],
    *,
    x_title: str,
    logarithmic: bool = False,
) -> Plot | None:
    """A mark per trial, the one that was taken a large one; other settings differ along the axis."""
    lines = []
    for hue, method in enumerate(methods):
        placed = [(place, trial) for trial in method.selection.trials if (place := x(trial)) is not None]
        points = [_share(place, trial.likeness) for place, trial in placed]
        taken = [place for place, (_, trial) in enumerate(placed) if trial is method.selection.trial]
        lines.append(Line(method.name, points, hue, joined=False, large=taken[0] if taken else None))
    lines = [line for line in lines if line.points]
    trials = max((len(line.points) for line in lines), default=0)
    return lay_out(lines, x_title=x_title, y_top=None, logarithmic=logarithmic) if trials > 1 else None


def plot_training(methods: Sequence[MethodFigures]) -> Plot | None:
    """What is right on `test` over minutes of training, one point a method. `None` for a single method."""
    lines = [
        Line(method.name, [_share(method.cost.train_minutes, method.test.all_right)], hue)
        for hue, method in enumerate(methods)
    ]
    return lay_out(lines, x_title="minutes of training, shared stages included") if len(lines) > 1 else None


def plot_rates(codecs: Sequence[CodecFigures]) -> Plot | None:
    """PSNR over bits per pixel of all codecs beside JPEG and WebP. `None` without codecs.

    JPEG and WebP were measured on the same pictures for each codec, and are drawn once.
    """
    names = {codec.name for codec in codecs}
    curves: dict[str, list[Point]] = {}
    for codec in codecs:
        new: dict[str, list[Point]] = {}
        for rate in codec.curve:
            point = Point(rate.bits_per_pixel, rate.psnr, rate.psnr, rate.psnr)
            new.setdefault(rate.codec, []).append(point)
        curves = new | curves
    if not curves:
        return None
    formats = sorted({_format(name) for name in curves if name not in names})
    hues = {name: hue for hue, name in enumerate([*(codec.name for codec in codecs), *formats])}
    lines = [
        Line(name, points, hues[_format(name)], dashed=name not in names and not name.endswith(" sheet"))
        for name, points in sorted(curves.items(), key=lambda curve: (hues[_format(curve[0])], curve[0]))
    ]
    return lay_out(lines, x_title="bits a pixel", y_unit=" dB", y_top=None, logarithmic=True)


def _format(curve: str) -> str:
    return curve.removesuffix(" sheet")


def _share(x: float, share: Estimate) -> Point:
    return Point(x, 100 * share.value, 100 * share.low, 100 * share.high)


def lay_out(
    lines: Sequence[Line],
    *,
    x_title: str,
    y_unit: str = "%",
    y_top: float | None = 100,
    logarithmic: bool = False,
) -> Plot:
    """Fit the axes to the data; `y_top` is where the y axis must end."""
    xs, _, lows, highs = zip(*(point for line in lines for point in line.points), strict=True)
    scale = math.log if logarithmic else float
    x_ticks = (log_ticks if logarithmic else linear_ticks)(min(xs), max(xs))
    y_ticks = linear_ticks(min(lows), max(highs) if y_top is None else y_top)
    first, last = scale(x_ticks[0]), scale(x_ticks[-1])

    def x(value: float) -> float:
        share = (scale(max(value, x_ticks[0])) - first) / (last - first)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        share = (y_ticks[-1] - value) / (y_ticks[-1] - y_ticks[0])
        return round(TOP + share * (HEIGHT - TOP - BOTTOM), 1)

    return Plot(
        x_title=x_title,
        x_ticks=[(x(tick), f"{tick:g}") for tick in x_ticks],
        y_ticks=[(y(tick), f"{tick:g}{y_unit}") for tick in y_ticks],
        lines=[
            replace(line, points=[Point(x(p.x), y(p.y), y(p.y_low), y(p.y_high)) for p in line.points])
            for line in lines
        ],
    )


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, ... from at most `low` to at least `high`, two at least."""
    first = max((tick for tick in LADDER if tick <= low), default=LADDER[0])
    last = min((tick for tick in LADDER if tick >= high and tick > first), default=LADDER[-1])
    return LADDER[LADDER.index(first) : LADDER.index(last) + 1]


def linear_ticks(low: float, high: float) -> list[float]:
    """Multiples of 1, 2, 5, 10, ... from at most `low` to at least `high`, seven or so."""
    gap = next((gap for gap in LADDER if (high - low) / gap <= MOST_GAPS), LADDER[-1])
    first = math.floor(low / gap)
    last = max(math.ceil(round(high / gap, 9)), first + 1)
    return [round(gap * tick, 9) for tick in range(first, last + 1)]

"""Quality against latency, as coordinates of a small SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from salon.report.figures import DialRow

WIDTH, HEIGHT = 360, 220  # small units, so that the labels stay readable on a phone
LEFT, RIGHT, TOP, BOTTOM = 38, 12, 12, 34  # margins


@dataclass(frozen=True)
class Point:
    """One value of the dial."""

    x: float
    y: float
    y_low: float
    y_high: float


@dataclass(frozen=True)
class Line:
    """One method."""

    name: str
    points: list[Point]

    @property
    def path(self) -> str:
        return " ".join(f"{point.x},{point.y}" for point in self.points)


@dataclass(frozen=True)
class Plot:
    """Positions in SVG units, ready to be drawn."""

    x_ticks: list[tuple[float, int]]
    """Position and milliseconds."""
    y_ticks: list[tuple[float, int]]
    """Position and per cent."""
    lines: list[Line]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


def plot_dials(dials: Mapping[str, Sequence[DialRow]]) -> Plot | None:
    """Lay out what is right, with its interval, of each method over its latency on a logarithmic axis.

    `None` when no method has two values to join.
    """
    joined = {name: dial for name, dial in dials.items() if len(dial) > 1}
    if not joined:
        return None
    latencies = [row.latency_ms_p50 for dial in joined.values() for row in dial]
    ticks = _ticks(min(latencies), max(latencies))
    first, last = math.log(ticks[0]), math.log(ticks[-1])
    lowest = 100 * min(row.all_right.low for dial in joined.values() for row in dial)
    gap = next((gap for gap in (5, 10, 20) if (100 - lowest) / gap <= 6), 20)
    floor = int(lowest // gap) * gap

    def x(milliseconds: float) -> float:
        milliseconds = max(milliseconds, ticks[0])  # the axis starts at 1 ms
        return round(LEFT + (math.log(milliseconds) - first) / (last - first) * (WIDTH - LEFT - RIGHT), 1)

    def y(share: float) -> float:
        return round(TOP + (100 - 100 * share) / (100 - floor) * (HEIGHT - TOP - BOTTOM), 1)

    return Plot(
        x_ticks=[(x(tick), tick) for tick in ticks],
        y_ticks=[(y(percent / 100), percent) for percent in range(floor, 101, gap)],
        lines=[
            Line(
                name,
                [
                    Point(
                        x(row.latency_ms_p50),
                        y(row.all_right.value),
                        y(row.all_right.low),
                        y(row.all_right.high),
                    )
                    for row in dial
                ],
            )
            for name, dial in joined.items()
        ],
    )


def _ticks(low: float, high: float) -> list[int]:
    """1, 2, 5, 10, ... milliseconds from at most `low` to at least `high`."""
    ladder = [digit * 10**power for power in range(7) for digit in (1, 2, 5)]
    first = max((tick for tick in ladder if tick <= low), default=ladder[0])
    last = min((tick for tick in ladder if tick >= high and tick > first), default=ladder[-1])
    return ladder[ladder.index(first) : ladder.index(last) + 1]

"""The views in which pictures are compared: by which network, and whether smoothed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class View:
    """A way to look at pictures."""

    network: str
    smoothed: bool

    def __str__(self) -> str:
        return f"{self.network}{' smoothed' if self.smoothed else ''}"


SMOOTHED = View("efficientnet-lite0", smoothed=True)
SMOOTHED_AGAIN = View("efficientnet-lite1", smoothed=True)
SHARP = View("efficientnet-lite0", smoothed=False)
VIEWS = (SMOOTHED, SMOOTHED_AGAIN, SHARP)

"""What the comparison knows of each method, sentinel and codec; `salon.report.load` fills it in."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from salon.judging.alignment import ALL, CAPTION
from salon.judging.record import CopyFigures, Cost, Gate, Judgement, RatePoint, SplitFigures
from salon.judging.selection import Selection
from salon.report.other_trainings import OtherTrainings

SHEET_COLUMNS = 8  # as the evaluate stage lays its sheets out
SHEET_GAP = 2  # pixels between two pictures, likewise


@dataclass(frozen=True)
class InlineImage:
    """A PNG inside the page: shown whole, or a sheet that holds judged pictures row by row."""

    base64_png: str
    width: int
    height: int

    @property
    def tile(self) -> int:
        """Side of one picture in pixels of the sheet."""
        return (self.width + SHEET_GAP) // SHEET_COLUMNS - SHEET_GAP

    @property
    def rows(self) -> int:
        return (self.height + SHEET_GAP) // (self.tile + SHEET_GAP)


@dataclass(frozen=True)
class JudgedSamples:
    """Every judged image of one method for the prompts of one split."""

    rows: list[dict[str, Any]]
    """`id`, `caption`, `lang`, `wanted`, `seen`, `right`, `all`."""
    sheet: InlineImage
    """The first of them."""

    @property
    def ids(self) -> list[str]:
        return [row["id"] for row in self.rows]

    def mistakes(self, attribute: str, *, most: int) -> list[tuple[str, str, int, int]]:
        """The most frequent (wanted, seen, times seen instead, times wanted), commonest first."""
        asked = Counter(row["wanted"][attribute] for row in self.rows)
        wrong = (row for row in self.rows if not row["right"][attribute])
        pairs = Counter((row["wanted"][attribute], row["seen"][attribute]) for row in wrong)
        ordered = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))
        return [(wanted, seen, times, asked[wanted]) for (wanted, seen), times in ordered[:most]]


@dataclass(frozen=True)
class JudgedSource:
    """What the jury found of a method or a sentinel."""

    name: str
    judgement: Judgement

    @property
    def splits(self) -> dict[str, SplitFigures]:
        """`test`, then `novel/<kind>` for each kind; `val` selects, and is no result."""
        return self.judgement.reported

    @property
    def test(self) -> SplitFigures:
        return self.judgement.splits["test"]

    @property
    def copies(self) -> CopyFigures:
        assert self.judgement.memorisation is not None
        return self.judgement.memorisation

    @property
    def cost(self) -> Cost:
        """Of a method; a sentinel costs nothing."""
        assert self.judgement.cost is not None
        return self.judgement.cost

    @property
    def latency_ms(self) -> float:
        """Median of one picture alone."""
        return self.cost.latency_ms_p50


@dataclass(frozen=True)
class MethodFigures(JudgedSource):
    """Everything the page says about one method."""

    samples: dict[str, JudgedSamples]
    """Of each of `splits`."""
    closest_pairs: InlineImage
    """Generated pictures above the training pictures they are nearest to, the most suspicious first."""
    worst: list[dict[str, Any]]
    """Of all judged pictures those with the most attributes wrong, as `samples` with their `split`."""
    worst_sheet: InlineImage | None
    """These pictures; `None` where nothing is wrong."""
    ledger: dict[str, Any]
    """What training cost: `own`, and `shared` by stage; and `selection`, what the search of settings did."""
    withheld: dict[str, str]
    """Figures that are not shown, as `test/precision` -> why."""
    selection: Selection
    """What was tried of the sampler's settings, and which were taken."""

    @property
    def warnings(self) -> list[str]:
        """What the method found wrong with its own training."""
        return list(self.ledger["own"].get("warnings", []))


@dataclass(frozen=True)
class CodecFigures:
    """What one codec loses."""

    name: str
    test: dict[str, Any]
    """`psnr`, `bits_per_pixel`, `codes_used`, `perplexity`, `pictures`, and `accuracy` by attribute."""
    curve: list[RatePoint]
    """The codec itself, and JPEG and WebP on the same pictures."""
    reconstructions: InlineImage
    """Rows of originals, each above the same pictures through the codec."""


@dataclass(frozen=True)
class ReportData:
    """All that the page is made of."""

    methods: list[MethodFigures]
    sentinels: list[JudgedSource]
    gate: Gate
    codecs: list[CodecFigures]
    floors: list[JudgedSource]
    """Real pictures through each codec."""
    real: dict[str, InlineImage]
    """Split -> the prompts' own pictures, in the order of the methods' sheets."""
    scorer: dict[str, Any]
    clip: dict[str, Any]
    ingested: dict[str, int]
    """Rows per split."""
    others: OtherTrainings
    """What is known of trainings with other seeds."""

    @property
    def splits(self) -> list[str]:
        """Splits that every method was judged on, in the order of the first method."""
        return [split for split in self.methods[0].splits if all(split in m.splits for m in self.methods)]

    @property
    def attributes(self) -> list[str]:
        """What a picture is judged by."""
        return [name for name in self.methods[0].test.alignment if name != ALL]

    @property
    def captions_alone(self) -> bool:
        """Whether the rows have no attributes, so that a picture is judged by finding its own caption."""
        return self.attributes == [CAPTION]

    @property
    def attributes_apart(self) -> list[str]:
        """The attributes, where they say more than whether all is right."""
        return [] if self.captions_alone else self.attributes

    @property
    def captions_judged(self) -> bool:
        """Whether every picture source was asked which caption fits its pictures."""
        judged = [source.splits for source in (*self.methods, *self.sentinels)]
        return all("r_precision" in figures.metrics for splits in judged for figures in splits.values())

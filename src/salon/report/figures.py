"""What the comparison knows of each method, sentinel and codec; `salon.report.load` fills it in."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from salon.judging.alignment import ALL, CAPTION
from salon.judging.statistics import Estimate

SHEET_COLUMNS = 8  # as the evaluate stage lays its sheets out
SHEET_GAP = 2  # pixels between two pictures, likewise
FIDELITY = ("kid", "precision", "recall", "density", "coverage", "diversity")
SENTINELS = {
    "real": "held-out real pictures of the very prompts, the ceiling",
    "copycat": "a training picture that shows what is asked",
    "retrieval": "the training picture with the nearest caption",
    "shuffled": "real pictures under each other's captions",
    "noise": "each pixel drawn alone",
}

Alignment = dict[str, Estimate]
"""Attribute, or `all` -> share of pictures that show it as asked."""


@dataclass(frozen=True)
class InlineImage:
    """A PNG inside the page."""

    base64_png: str
    width: int
    height: int


@dataclass(frozen=True)
class Sheet(InlineImage):
    """The first judged pictures of one split in one PNG, row by row."""

    @property
    def tile(self) -> int:
        """Side of one picture in pixels of the sheet."""
        return (self.width + SHEET_GAP) // SHEET_COLUMNS - SHEET_GAP

    @property
    def rows(self) -> int:
        return (self.height + SHEET_GAP) // (self.tile + SHEET_GAP)

    @property
    def capacity(self) -> int:
        return self.rows * SHEET_COLUMNS


@dataclass(frozen=True)
class Answers:
    """How often a picture source shows what the prompts of one split ask for."""

    alignment: Alignment
    languages: dict[str, Alignment]
    """Language tag -> alignment over the captions in it."""
    phrasings: dict[str, Alignment]
    """`en-1`, … -> alignment over the captions put that way; empty where the source says nothing of it."""
    r_precision: Estimate | None
    """Share of pictures that find their own caption among others; `None` where nobody looked."""


@dataclass(frozen=True)
class SplitFigures(Answers):
    """One method on the prompts of one split."""

    samples: list[dict[str, Any]]
    """Every judged picture: `id`, `caption`, `lang`, `wanted`, `seen`, `right`, `all`."""
    sheet: Sheet

    @property
    def ids(self) -> list[str]:
        return [sample["id"] for sample in self.samples]

    def mistakes(self, attribute: str, *, most: int) -> list[tuple[str, str, int, int]]:
        """The most frequent (wanted, seen, times seen instead, times wanted), commonest first."""
        asked = Counter(sample["wanted"][attribute] for sample in self.samples)
        pairs = Counter(
            (sample["wanted"][attribute], sample["seen"][attribute])
            for sample in self.samples
            if not sample["right"][attribute]
        )
        ordered = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))
        return [(wanted, seen, times, asked[wanted]) for (wanted, seen), times in ordered[:most]]


@dataclass(frozen=True)
class DialRow:
    """Quality and latency at one setting of what a method has to trade, on validation prompts."""

    dial: str
    """Argument of `sample`, e.g. `num_inference_steps`."""
    setting: float
    latency_ms_p50: float
    all_right: Estimate


@dataclass(frozen=True)
class Copies:
    """What the copy test says of one method's pictures."""

    rate: Estimate
    """Share of copies, false alarms taken off."""
    flagged: float
    """Share of pictures below the threshold, false alarms included."""
    false_alarms: float
    """Share of held-out real pictures that the threshold flags."""
    power: float
    """Share of planted rough copies that the test finds."""
    detectable_rate: float
    """Smallest share of copies that these pictures show in four of five repetitions."""

    @property
    def found(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.rate.low > 0


@dataclass(frozen=True)
class MethodFigures:
    """Everything the page says about one method."""

    name: str
    splits: dict[str, SplitFigures]
    """`test`, then `novel/<kind>` for each kind."""
    fidelity: dict[str, Estimate]
    """On `test`, by the names of `FIDELITY`."""
    copies: Copies
    closest_pairs: InlineImage
    """Generated pictures above the training pictures they are nearest to, the most suspicious first."""
    worst: list[dict[str, Any]]
    """Of all judged pictures those with the most attributes wrong, as `samples` with their `split`."""
    worst_sheet: Sheet | None
    """These pictures; `None` where nothing is wrong."""
    cost: dict[str, Any]
    ledger: dict[str, Any]
    """What training cost: `own`, and `shared` by stage."""
    dial: list[DialRow]
    """Of what buys quality with time; cheapest setting first."""
    guidance: list[DialRow]
    """Of the guidance scale; one row where there is no guidance."""

    @property
    def warnings(self) -> list[str]:
        """What the method found wrong with its own training."""
        return list(self.ledger["own"].get("warnings", []))


@dataclass(frozen=True)
class SentinelFigures:
    """A picture source whose place is known, judged as a method is."""

    name: str
    splits: dict[str, Answers]
    fidelity: dict[str, Estimate]
    copies: Copies


@dataclass(frozen=True)
class Gate:
    """Whether every metric puts the sentinels where they belong."""

    passed: bool
    broken: str
    """What is wrong, in a sentence."""
    rules: list[str]
    """Every rule that held."""
    withheld: dict[str, str] = field(default_factory=dict)
    """Metric that says nothing of a method, as `test/precision` -> the rule that it breaks."""


@dataclass(frozen=True)
class RatePoint:
    """How many bits one way of storing pictures takes, and what it keeps of them."""

    codec: str
    quality: int | None
    """Setting of JPEG or WebP; a learned codec has none."""
    bits_per_pixel: float
    psnr: float


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
class SeedFigures:
    """One method trained several times."""

    all_right: list[float]
    """On `test`, one per seed that did not diverge."""
    minutes: list[float]
    diverged: int
    verdicts: list[str]
    """One per seed: a 1 for every prompt of `test` that is all right, else a 0; empty in older files."""


@dataclass(frozen=True)
class SeedStudy:
    """How far another training seed moves a figure."""

    profile: str
    seeds: list[int]
    methods: dict[str, SeedFigures]


@dataclass(frozen=True)
class ReportData:
    """All that the page is made of."""

    methods: list[MethodFigures]
    sentinels: list[SentinelFigures]
    gate: Gate
    codecs: list[CodecFigures]
    real: dict[str, Sheet]
    """Split -> the prompts' own pictures, in the order of the methods' sheets."""
    scorer: dict[str, Any]
    clip: dict[str, Any]
    ingested: dict[str, int]
    """Rows per split."""
    seeds: SeedStudy | None
    """`None` until somebody trained several seeds."""

    @property
    def splits(self) -> list[str]:
        """Splits that every method was judged on, in the order of the first method."""
        first, *others = self.methods
        return [split for split in first.splits if all(split in other.splits for other in others)]

    @property
    def attributes(self) -> list[str]:
        """What a picture is judged by."""
        return [name for name in self.methods[0].splits["test"].alignment if name != ALL]

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
        answers: list[Answers] = [answer for method in self.methods for answer in method.splits.values()]
        answers += [answer for sentinel in self.sentinels for answer in sentinel.splits.values()]
        return all(answer.r_precision for answer in answers)

"""What the jury found of one source of images, as `reports/metrics/<name>.json` keeps it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from salon.errors import SalonError
from salon.files import NoJsonError, read_json, write_json
from salon.judging.alignment import ALL
from salon.judging.statistics import Estimate

T = TypeVar("T")
READING_ORDER = ("concept", "style", "background")  # files are sorted by key; other attributes follow by name

Alignment = dict[str, Estimate]
"""Attribute, or `all` -> share of images that show it as asked."""


@dataclass(frozen=True)
class SplitFigures:
    """Figures on the prompts of one split."""

    alignment: Alignment
    languages: dict[str, Alignment] = field(default_factory=dict)
    """Language tag -> alignment over the captions in it."""
    phrasings: dict[str, Alignment] = field(default_factory=dict)
    """`en-1`, … -> alignment over the captions put that way; empty where the source says nothing of it."""
    factors: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    """Factor of variation -> `sd`, its standard deviation within a caption as a share of that of real
    pictures, and `ks`, how far the values over all captions lie from those of real pictures."""
    metrics: dict[str, Estimate] = field(default_factory=dict)
    """Every other metric of `salon.judging.metrics` that is measured on this split, by its name."""

    @property
    def all_right(self) -> Estimate:
        """Share of images that show all that was asked."""
        return self.alignment[ALL]

    def estimates(self) -> dict[tuple[str, ...], Estimate]:
        """Every figure by its keys in the file."""
        groups: dict[tuple[str, ...], Alignment] = {
            ("alignment",): self.alignment,
            **{(f"alignment_{lang}",): alignment for lang, alignment in self.languages.items()},
            **{("phrasing", name): alignment for name, alignment in self.phrasings.items()},
            **{("factors", name): found for name, found in self.factors.items()},
            (): self.metrics,
        }
        return {(*group, name): value for group, found in groups.items() for name, value in found.items()}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "SplitFigures":
        metrics = dict(raw)
        alignment, phrasings = _alignment(metrics.pop("alignment")), metrics.pop("phrasing", {})
        languages = {
            key.removeprefix("alignment_"): _alignment(metrics.pop(key))
            for key in raw
            if key.startswith("alignment_")
        }
        phrased = {name: _alignment(found) for name, found in phrasings.items()}
        factors = {name: _estimates(found) for name, found in metrics.pop("factors", {}).items()}
        return cls(alignment, languages, phrased, factors, _estimates(metrics))


@dataclass(frozen=True)
class CopyShares:
    """What the copy test says of the pictures of one split."""

    copy_rate: Estimate
    """Share of pictures that are copies as the planted ones, false alarms taken off."""
    nearer: Estimate
    """Share that lies nearer to training than to what training did not see; 1/2 without memory."""
    drawing: Estimate | None = None
    """Share that shows the drawing of training that was asked for; where pictures show one drawing each."""
    another_drawing: Estimate | None = None
    """Share that shows another drawing of training."""

    def estimates(self) -> dict[str, Estimate]:
        return {key.name: value for key in fields(self) if (value := getattr(self, key.name))}


@dataclass(frozen=True)
class CopyFigures:
    """What the copy test says of one source's pictures."""

    splits: dict[str, CopyShares]
    """As those of `Judgement`. In the file those of `test` stand above the others."""
    power: float
    """Share of planted copies that the test finds: training pictures through the source's own channel."""
    detectable_rate: float
    """Smallest share of such copies that the pictures of `test` show in four of five repetitions."""

    @property
    def copy_rate(self) -> Estimate:
        return self.splits["test"].copy_rate

    @property
    def nearer(self) -> Estimate:
        return self.splits["test"].nearer

    @property
    def found(self) -> bool:
        """Whether the interval leaves zero out, on any split."""
        return any(shares.copy_rate.low > 0 for shares in self.splits.values())

    def estimates(self) -> dict[tuple[str, ...], Estimate]:
        """By keys in the file below `memorisation`."""
        return {
            (*(() if split == "test" else split.split("/", 1)), name): value
            for split, shares in self.splits.items()
            for name, value in shares.estimates().items()
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "CopyFigures":
        novel = {f"novel/{kind}": shares for kind, shares in sorted(raw.get("novel", {}).items())}
        val = {"val": raw["val"]} if "val" in raw else {}
        test = {key.name: raw[key.name] for key in fields(CopyShares) if key.name in raw}
        return cls(
            {
                split: CopyShares(**{name: Estimate(**value) for name, value in shares.items()})
                for split, shares in (val | {"test": test} | novel).items()
            },
            power=raw["power"],
            detectable_rate=raw["detectable_rate"],
        )


@dataclass(frozen=True)
class Cost:
    """What training cost, and what an image costs."""

    train_flops: float
    """Counted, shared stages included, as are the minutes."""
    train_minutes: float
    parameters: int
    """Of what draws a picture: generator and codec, without the text tower, which is the same for all."""
    training_parameters: int
    """Of what training alone needs, as a discriminator."""
    images_seen: int
    latency_ms_p50: float
    """One image alone, from text to PNG."""
    latency_ms_p95: float
    images_per_second_b16: float
    """16 in one request."""
    peak_memory_gb: float
    """Of the training."""
    selection_flops: float
    """Counted in drawing the pictures by which the settings of the sampler were chosen."""
    selection_minutes: float
    picture_flops: float
    """Counted in drawing one picture at the chosen settings, from the states of its caption to pixels."""
    device: str
    """What the seconds were measured on: `cpu`, or `cuda: ` and the name of the GPU."""
    cpu_cores: int


@dataclass(frozen=True)
class Judgement:
    """All that was measured of one method or sentinel."""

    splits: dict[str, SplitFigures]
    """`val`, `test`, then `novel/<kind>` by kind."""
    memorisation: CopyFigures | None = None
    cost: Cost | None = None
    """`None` of a sentinel."""

    @property
    def reported(self) -> dict[str, SplitFigures]:
        """The splits that select nothing: all but `val`."""
        return {split: figures for split, figures in self.splits.items() if split != "val"}

    def estimates(self) -> dict[tuple[str, ...], Estimate]:
        """Every figure with an interval by its keys in the file, as `("test", "kid")`."""
        found = {
            (*split.split("/", 1), *keys): value
            for split, figures in self.splits.items()
            for keys, value in figures.estimates().items()
        }
        if self.memorisation:
            copies = self.memorisation.estimates()
            found |= {("memorisation", *keys): value for keys, value in copies.items()}
        return found

    def require(self, needs: Sequence[str]) -> None:
        """
        Raises:
            KeyError: something of `needs` was not measured, as `test/likeness`, or `cost`.
        """
        known = {"/".join(keys) for keys in self.estimates()} | ({"cost"} if self.cost else set())
        if absent := [need for need in needs if need not in known]:
            raise KeyError(", ".join(absent))

    def without(self, withheld: Collection[str]) -> "Judgement":
        """All but the metrics `<split>/<name>` of `withheld`."""
        splits = {}
        for split, figures in self.splits.items():
            kept = {key: value for key, value in figures.metrics.items() if f"{split}/{key}" not in withheld}
            splits[split] = replace(figures, metrics=kept)
        return replace(self, splits=splits)

    def to_json(self) -> dict[str, Any]:
        raw: dict[str, Any] = {}
        for keys, value in self.estimates().items():
            node = raw
            for key in keys[:-1]:
                node = node.setdefault(key, {})
            node[keys[-1]] = value.to_json()
        if self.memorisation:
            raw["memorisation"] |= {
                name: round(getattr(self.memorisation, name), 4) for name in ("power", "detectable_rate")
            }
        if self.cost:
            raw["cost"] = asdict(self.cost)
        return raw

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Judgement":
        """What `to_json` gave; a form that it never gives is some `LookupError`, `TypeError` or the like."""
        splits = {split: raw[split] for split in ("val", "test") if split in raw}
        splits |= {f"novel/{kind}": figures for kind, figures in sorted(raw.get("novel", {}).items())}
        copies = raw.get("memorisation")
        return cls(
            {split: SplitFigures.from_json(figures) for split, figures in splits.items()},
            CopyFigures.from_json(copies) if copies else None,
            Cost(**raw["cost"]) if "cost" in raw else None,
        )

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path, *, needs: Sequence[str] = ()) -> "Judgement":
        """Read what `save` wrote; `needs` is what must be there, as `test/kid`, or `cost`.

        Raises:
            SalonError: the file is missing, damaged, or something else.
        """

        def parse(raw: Mapping[str, Any]) -> "Judgement":
            found = cls.from_json(raw)
            found.require(needs)
            return found

        stage = "sentinels" if path.stem.startswith("sentinel-") else f"evaluate@{path.stem}"
        return read_output(path, parse, stage=stage)


@dataclass(frozen=True)
class Gate:
    """Whether every metric puts the sentinels where they belong, as `reports/sentinels.json` says."""

    passed: bool
    broken: str = ""
    """What is wrong, in a sentence."""
    rules: list[str] = field(default_factory=list)
    """Every rule that held."""
    withheld: dict[str, str] = field(default_factory=dict)
    """Metric that says nothing of a method, as `test/precision` -> the rule that it breaks."""

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> "Gate":
        """Read what `save` wrote.

        Raises:
            SalonError: the file is missing, damaged, or something else.
        """
        return read_output(
            path,
            lambda raw: cls(raw["passed"], raw["broken"], raw["rules"], raw.get("withheld", {})),
            stage="sentinels",
        )


@dataclass(frozen=True)
class RatePoint:
    """How many bits one way of storing pictures takes, and what it keeps of them."""

    codec: str
    quality: int | None
    """Setting of JPEG or WebP; the learned codec has none."""
    bits_per_pixel: float
    psnr: float


def read_output(path: Path, parse: Callable[[Any], T], *, stage: str) -> T:
    """What `parse` makes of a JSON file that a stage of the pipeline writes.

    Raises:
        SalonError: the file is missing, damaged, or of another form; it names the stage.
    """
    try:
        return parse(read_json(path))
    except FileNotFoundError:
        raise SalonError(f"{path} does not exist: run `dvc repro {stage}`") from None
    except NoJsonError as error:
        reason = error.reason
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
    raise SalonError(f"{path} is not what its stage writes ({reason}): run `dvc repro --force {stage}`")


def in_reading_order(by_attribute: Mapping[str, T]) -> dict[str, T]:
    """The attributes as a caption names them, not as a file sorts them."""
    known = [name for name in READING_ORDER if name in by_attribute]
    return {name: by_attribute[name] for name in [*known, *sorted(by_attribute.keys() - set(known))]}


def _alignment(raw: Mapping[str, Any]) -> Alignment:
    return _estimates(in_reading_order(raw))


def _estimates(raw: Mapping[str, Any]) -> dict[str, Estimate]:
    return {name: Estimate(**value) for name, value in raw.items()}

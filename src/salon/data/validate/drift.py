"""What the data look like in a few figures, and how far these are from those of the data last accepted.

The figures are kept in git (`data/accepted.json`): a pull request shows what a change did to the data.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from salon.data.validate.frames import MeasuredRows
from salon.errors import SalonError
from salon.files import NoJsonError, read_json
from salon.params import DriftParams

FORMAT = 1
KNOWN_SHARE = 0.005  # of captions that have a word which counts as known
FREQUENT_SHARE = 0.01  # of captions with a word that must not be new, and must not be lost
SHOWN = 8  # names per finding; the rest are counted

WORD = re.compile(r"\w+")

Profile = Mapping[str, Any]


@dataclass(frozen=True)
class Drift:
    """One figure, then and now."""

    name: str
    means: str
    accepted: str
    now: str
    limit: str
    drifted: bool


def profile_data(measured: MeasuredRows) -> dict[str, Any]:
    """The figures of data whose shards could all be read."""
    rows = measured.rows
    values: dict[str, set[str]] = {}
    for attributes in rows["attributes"]:
        for name, value in (attributes or {}).items():
            values.setdefault(name, set()).add(value)
    captions = [caption for caption in rows["caption"] if caption]
    lengths = Counter(len(caption) for caption in captions)
    pictures = [picture for picture in rows["picture"] if picture]
    languages = Counter(str(lang) for lang in rows["lang"])
    return {
        "format": FORMAT,
        "rows": dict(
            zip(measured.splits["split"], measured.splits["rows"].astype(int).tolist(), strict=True)
        ),
        "sources": sorted({str(source) for source in rows["source"]}),
        "languages": {lang: _round(n / len(rows)) for lang, n in sorted(languages.items())},
        "values": {name: sorted(found) for name, found in sorted(values.items())},
        "words": {} if values else _word_shares(captions),
        "caption_lengths": {str(length): lengths[length] for length in sorted(lengths)},
        "repeated_pictures": _round(1 - len(set(pictures)) / max(1, len(pictures))),
    }


def read_accepted(path: Path) -> Profile | None:
    """The accepted figures; `None` when none were accepted yet.

    Raises:
        SalonError: the file is damaged, or of another version of Salon.
    """
    try:
        accepted = read_json(path)
    except FileNotFoundError:
        return None
    except NoJsonError as error:
        raise SalonError(
            f"{path} is no JSON ({error.reason}): `git checkout` it, or accept the data anew"
        ) from None
    if not isinstance(accepted, dict) or accepted.get("format") != FORMAT:
        raise SalonError(f"{path} is of another version of Salon: run `salon validate --accept`")
    return accepted


def compare_profiles(accepted: Profile, now: Profile, limits: DriftParams) -> list[Drift]:
    """Every figure beside the accepted one."""
    lengths, lengths_now = accepted["caption_lengths"], now["caption_lengths"]
    distance = length_distance(lengths, lengths_now)
    langs, langs_now = accepted["languages"], now["languages"]
    shift = max(
        (abs(langs.get(lang, 0) - langs_now.get(lang, 0)) for lang in {*langs, *langs_now}), default=0
    )
    repeated, repeated_now = accepted["repeated_pictures"], now["repeated_pictures"]
    rows, rows_now = accepted["rows"], now["rows"]
    loss = max((1 - rows_now.get(split, 0) / n for split, n in rows.items() if n), default=0.0)
    return [
        *_compare_names(accepted, now, limits),
        Drift(
            "caption_lengths", "distance of the distributions of caption lengths",
            f"mean {_mean(lengths):.1f} characters",
            f"mean {_mean(lengths_now):.1f} characters, distance {distance:.3f}",
            f"{limits.max_length_distance:g}", distance > limits.max_length_distance,
        ),
        Drift(
            "languages", "largest change of a language's share",
            _shares(langs), f"{_shares(langs_now)}: by {shift:.1%}",
            f"{limits.max_language_shift:.1%}", shift > limits.max_language_shift,
        ),
        Drift(
            "repeated_pictures", "rows whose picture another row shows too",
            f"{repeated:.1%}", f"{repeated_now:.1%}", f"{limits.max_repeated_increase:.1%} more",
            repeated_now - repeated > limits.max_repeated_increase,
        ),
        Drift(
            "rows", "rows per split, and the largest loss",
            _counts(rows), f"{_counts(rows_now)}: {max(0.0, loss):.1%} lost",
            f"{limits.max_row_loss:.0%}", loss > limits.max_row_loss,
        ),
    ]  # fmt: skip


def length_distance(first: Mapping[str, int], second: Mapping[str, int]) -> float:
    """Largest difference of the two distributions' cumulative shares (Kolmogorov-Smirnov)."""
    totals = [max(1, sum(lengths.values())) for lengths in (first, second)]
    lengths = sorted({*first, *second}, key=int)
    counts = [[first.get(length, 0), second.get(length, 0)] for length in lengths]
    shares = np.cumsum(counts or [[0, 0]], axis=0) / totals
    return float(np.abs(np.diff(shares)).max())


def _compare_names(accepted: Profile, now: Profile, limits: DriftParams) -> list[Drift]:
    """Values of attributes, or frequent words where there are no attributes."""
    then: dict[str, set[str]] = {name: set(found) for name, found in accepted["values"].items()}
    today: dict[str, set[str]] = {name: set(found) for name, found in now["values"].items()}
    lost = {name: then[name] - today.get(name, set()) for name in then}
    new = {name: today[name] - then.get(name, set()) for name in today}
    if not then and not today:
        then, today = ({"word": set(profile["words"])} for profile in (accepted, now))
        lost = {"word": _frequent(accepted["words"]) - today["word"]}
        new = {"word": _frequent(now["words"]) - then["word"]}
    total = max(1, sum(len(names) for names in then.values()))
    return [
        _drift_of_names("lost_names", "lost of the values or frequent words", lost, total, limits.max_lost),
        _drift_of_names("new_names", "new beside the values or frequent words", new, total, limits.max_new),
    ]


def _drift_of_names(name: str, means: str, found: Mapping[str, set[str]], total: int, limit: float) -> Drift:
    named = [f"{kind} {value!r}" for kind in sorted(found) for value in sorted(found[kind])]
    shown = ", ".join(named[:SHOWN]) + (f" and {len(named) - SHOWN} more" if len(named) > SHOWN else "")
    return Drift(
        name, means, f"{total} names", shown or "none", f"{limit:.0%} of them", len(named) / total > limit
    )


def _word_shares(captions: list[str]) -> dict[str, float]:
    counts = Counter(word for caption in captions for word in set(WORD.findall(caption.lower())))
    return {
        word: _round(n / len(captions))
        for word, n in sorted(counts.items())
        if n >= KNOWN_SHARE * len(captions)
    }


def _frequent(shares: Mapping[str, float]) -> set[str]:
    return {word for word, share in shares.items() if share >= FREQUENT_SHARE}


def _mean(lengths: Mapping[str, int]) -> float:
    return sum(int(length) * n for length, n in lengths.items()) / max(1, sum(lengths.values()))


def _shares(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.1%}" for name, share in shares.items())


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items())


def _round(share: float) -> float:
    return round(share, 6)

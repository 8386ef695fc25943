"""What the shards really hold, measured from the bytes, as frames that expectations can be asked of.

What no expectation can say of the columns as they stand (does it decode, has another split its like?) is a
column of its own: empty where nothing is wrong, a problem in words, or null where the row cannot be asked,
since another check already names it: one cause gives one complaint.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from salon.data.ingest.worlds.base import KnownSources
from salon.data.splits import novelty_kind, seen_pairs
from salon.data.validate.duplicates import near_duplicates, shared_pictures
from salon.data.validate.measure import SampleImage, measure_rows, open_shard, sample_pictures
from salon.errors import SalonError
from salon.params import ValidateParams
from salon.paths import SPLITS

PHASH = r"[0-9a-f]{16}"  # 64 bits


@dataclass
class MeasuredRows:
    """Frames to ask expectations of; each line of a frame is one thing that can fail."""

    shards: pd.DataFrame
    splits: pd.DataFrame
    rows: pd.DataFrame
    """Empty where a shard could not be read: half of the data says nothing about leaks."""
    balance: pd.DataFrame
    """Attribute -> its most and least frequent value in training."""
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """`attribute` -> value -> rows in training."""
    novel_kinds: dict[str, int] = field(default_factory=dict)
    pictures: list[SampleImage] = field(default_factory=list)
    data_sha256: str | None = None


def gather(
    folder: Path,
    *,
    ingested: Mapping[str, int],
    sources: KnownSources,
    settings: ValidateParams,
    open_pictures: bool = True,
) -> MeasuredRows:
    """Read every shard of `folder` and measure every row; `ingested` is how many rows each split must have.

    Without `open_pictures` the columns are believed about them, and what needs their bytes is not asked.

    Raises:
        SalonError: the folder holds no shard.
    """
    paths = [path for path in sorted(folder.glob("*.parquet")) if path.name != "quarantine.parquet"]
    if not paths:
        raise SalonError(f"{folder} holds no shard: run the ingest stage first")
    paths.sort(key=_split_order)
    columns: dict[str, list[Any]] = {}
    shards: list[dict[str, Any]] = []
    pictures: list[SampleImage] = []
    for path in paths:
        shard, table = open_shard(path, with_pictures=open_pictures)
        shards.append(shard)
        if table is not None:
            facts = measure_rows(table, path.name, largest_side=settings.image_side[1])
            for name, values in facts.items():
                columns.setdefault(name, []).extend(values)
            if open_pictures:
                pictures += sample_pictures(table, facts, seen=Counter(picture.split for picture in pictures))
    measured = MeasuredRows(
        shards=_frame(shards), splits=_frame([]), rows=_frame([]), balance=_frame([]), pictures=pictures
    )
    if measured.shards[["unreadable", "schema_difference"]].isna().all(axis=None):
        rows = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
        measured.rows = rows
        measured.data_sha256 = _digest(rows)
        held = {split: int((rows["shard_split"] == split).sum()) for split in SPLITS}
        measured.splits = _frame(
            [{"split": split, "rows": held[split], "ingested": ingested[split]} for split in SPLITS]
        )
        _find_crossings(measured, sources=sources, settings=settings)
        _find_combinations(measured)
        _find_disagreements(measured, sources=sources, settings=settings)
        _count_attributes(measured)
    return measured


def _split_order(path: Path) -> tuple[int, str]:
    split = path.name.split("-")[0]
    return (SPLITS.index(split) if split in SPLITS else len(SPLITS), path.name)


def _frame(records: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(records, dtype=object)


def _digest(rows: pd.DataFrame) -> str:
    """sha256 over what a model can learn from: split, id, picture and attributes of every row, in order."""
    digest = hashlib.sha256()
    # the JSON of the line, put together from parts of which few are different or any needs escaping
    described: dict[tuple[tuple[str, str], ...] | None, str] = {}
    content = "real_sha256" if rows["image_problem"].notna().any() else "picture"  # nothing was opened
    for split, identity, sha256, attributes in _lines(rows, "split", "id", content, "attributes"):
        key = None if attributes is None else tuple(attributes.items())
        if key not in described:
            described[key] = json.dumps(attributes, sort_keys=True)
        quoted = ", ".join(map(_quoted, (split, identity, sha256 or None)))
        digest.update(f"[{quoted}, {described[key]}]\n".encode())
    return digest.hexdigest()


def _quoted(text: str | None) -> str:
    """`text` as JSON."""
    return f'"{text}"' if text is not None and text.isascii() and text.isalnum() else json.dumps(text)


def _lines(rows: pd.DataFrame, *columns: str) -> Iterator[tuple[Any, ...]]:
    """The rows as tuples of `columns`, without the types that pandas would guess."""
    return zip(*(rows[column].tolist() for column in columns), strict=True)


def _derive(measured: MeasuredRows, name: str, problems: Mapping[int, str], *, asked: Iterable[int]) -> None:
    """Add the column `name`: a problem in words, empty, or null for a row that is not `asked`."""
    values: list[str | None] = [None] * len(measured.rows)
    for row in asked:
        values[row] = problems.get(row, "")
    measured.rows[name] = pd.Series(values, dtype=object)


def _find_crossings(measured: MeasuredRows, *, sources: KnownSources, settings: ValidateParams) -> None:
    """No picture, and no photograph much like it, may stand in two splits."""
    rows = measured.rows
    has_bytes = np.flatnonzero(rows["picture"].astype(bool)).tolist()
    held = rows.loc[has_bytes]
    twins = shared_pictures(held["picture"].tolist(), held["split"].tolist())
    leaks = {
        has_bytes[row]: f"the same picture as {_place(rows, has_bytes[twin])}" for row, twin in twins.items()
    }
    _derive(measured, "leak", leaks, asked=has_bytes)

    photographs = rows.index[
        ~rows["source"].isin(list(sources.rendered))
        & rows["phash"].astype("string").str.fullmatch(PHASH).fillna(False).astype(bool)
        & ~rows.index.isin(list(leaks))
    ].tolist()
    near = near_duplicates(
        np.array([int(text, 16) for text in rows.loc[photographs, "phash"]], dtype=np.uint64),
        rows.loc[photographs, "split"].tolist(),
        distance=settings.phash_distance,
    )
    problems = {
        photographs[row]: f"differs in {bits} of 64 bits from {_place(rows, photographs[other])}"
        for row, (other, bits) in near.items()
    }
    _derive(measured, "near_duplicate", problems, asked=photographs)


def _place(rows: pd.DataFrame, row: int) -> str:
    line = rows.loc[row]
    return f"id {line['id']} of split {line['split']} ({line['shard']} row {line['row']})"


def _find_combinations(measured: MeasuredRows) -> None:
    """Which pairs of attribute values, and which values, of the held-out rows training lacks."""
    lines = enumerate(_lines(measured.rows, "split", "attributes"))
    described = {row: (split, attributes) for row, (split, attributes) in lines if attributes}
    training = {
        tuple(sorted(attributes.items())) for split, attributes in described.values() if split == "train"
    }
    pairs = seen_pairs(dict(combination) for combination in training)
    parts = {part for combination in training for part in combination}
    held_out = {row: attributes for row, (split, attributes) in described.items() if split != "train"}
    kinds = {row: novelty_kind(attributes, pairs) for row, attributes in held_out.items()}
    strange = {
        row: " and no ".join(f"{name} {value!r}" for name, value in sorted(attributes.items() - parts))
        for row, attributes in held_out.items()
        if not attributes.items() <= parts
    }
    _derive(measured, "novelty", {row: kind for row, kind in kinds.items() if kind}, asked=held_out)
    _derive(measured, "unknown_parts", strange, asked=held_out)
    novel = [
        kind for row, kind in kinds.items() if kind and described[row][0] == "novel" and row not in strange
    ]
    measured.novel_kinds = dict(sorted(Counter(novel).items()))


def _find_disagreements(measured: MeasuredRows, *, sources: KnownSources, settings: ValidateParams) -> None:
    """Captions that do not say what their row claims, where the source knows how its captions speak."""
    problems: dict[int, str] = {}
    asked: list[int] = []
    known: dict[tuple[str, str, str, str], str | None] = {}  # few captions, many rows
    lines = _lines(measured.rows, "source", "caption", "lang", "attributes")
    for row, (source, caption, lang, attributes) in enumerate(lines):
        book = sources.phrase_books.get(source)
        if book is None or not (caption or "").strip() or lang not in settings.languages:
            continue
        asked.append(row)
        key = (source, caption, lang, str(sorted((attributes or {}).items())))
        if key not in known:
            known[key] = book.disagreement(caption, lang=lang, attributes=attributes or {})
        if (problem := known[key]) is not None:
            problems[row] = problem
    _derive(measured, "disagreement", problems, asked=asked)


def _count_attributes(measured: MeasuredRows) -> None:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    training = measured.rows.loc[measured.rows["split"] == "train", "attributes"]
    for attributes in training:
        for attribute, value in (attributes or {}).items():
            counts[attribute][value] += 1
    measured.counts = {name: dict(sorted(values.items())) for name, values in counts.items()}
    lines = []
    for attribute, values in measured.counts.items():
        most, least = max(values, key=values.__getitem__), min(values, key=values.__getitem__)
        imbalance = round(values[most] / values[least], 4)
        lines.append(dict(attribute=attribute, most_frequent=most, least_frequent=least, imbalance=imbalance))
    measured.balance = _frame(lines)

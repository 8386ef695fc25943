"""What the shards really hold, measured from the bytes, as frames that expectations can be asked of.

A check that cannot be asked of a row (the size of a picture that does not decode) is left null there: the row
is already named by the check that it failed, and one cause gives one complaint.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
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
    applies_to: dict[str, int] = field(default_factory=dict)
    """Derived column -> rows of which it could be asked."""
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
    evidence = MeasuredRows(
        shards=_frame(shards), splits=_frame([]), rows=_frame([]), balance=_frame([]), pictures=pictures
    )
    if evidence.shards[["unreadable", "schema_difference"]].isna().all(axis=None):
        rows = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
        evidence.rows = rows
        evidence.data_sha256 = _digest(rows)
        held = {split: int((rows["shard_split"] == split).sum()) for split in SPLITS}
        evidence.splits = _frame(
            [
                {
                    "split": split,
                    "rows": held[split],
                    "ingested": ingested[split],
                    # pictures without attributes have no combinations that could be novel
                    "rows_wanted": None if split == "novel" and not held[split] else held[split],
                }
                for split in SPLITS
            ]
        )
        _check_content(evidence, pictures_opened=open_pictures)
        _check_crossings(evidence, sources=sources, settings=settings)
        _check_combinations(evidence)
        _check_captions(evidence, sources=sources, settings=settings)
        _count_attributes(evidence)
    return evidence


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
    for split, identity, sha256, attributes in _lines(rows, "split", "id", "real_sha256", "attributes"):
        key = None if attributes is None else tuple(attributes.items())
        if key not in described:
            described[key] = json.dumps(attributes, sort_keys=True)
        digest.update(
            f"[{_quoted(split)}, {_quoted(identity)}, {_quoted(sha256)}, {described[key]}]\n".encode()
        )
    return digest.hexdigest()


def _quoted(text: str | None) -> str:
    """`text` as JSON."""
    return f'"{text}"' if text is not None and text.isascii() and text.isalnum() else json.dumps(text)


def _lines(rows: pd.DataFrame, *columns: str) -> Iterator[tuple[Any, ...]]:
    """The rows as tuples of `columns`, without the types that pandas would guess."""
    return zip(*(rows[column].tolist() for column in columns), strict=True)


def _derive(evidence: MeasuredRows, name: str, problems: Mapping[int, str], *, applies_to: int) -> None:
    """Add the column `name`: a problem in words, or null."""
    evidence.rows[name] = pd.Series([problems.get(row) for row in range(len(evidence.rows))], dtype=object)
    evidence.applies_to[name] = applies_to


def _check_content(evidence: MeasuredRows, *, pictures_opened: bool) -> None:
    """Do sizes, hashes and ids belong to the bytes that they stand beside?"""
    rows = evidence.rows
    sizes, hashes, ids, decoded = {}, {}, {}, 0
    shapes = _lines(rows, "image_problem", "width", "height", "real_width", "real_height")
    for row, (problem, width, height, real_width, real_height) in enumerate(shapes):
        decoded += problem is None
        if problem is None and (width, height) != (real_width, real_height):
            sizes[row] = f"width and height say {width}x{height}, the picture is {real_width}x{real_height}"
    names = _lines(rows, "image_problem", "image_sha256", "real_sha256", "id", "real_id")
    for row, (problem, sha256, real_sha256, identity, real_id) in enumerate(names):
        if problem is None and sha256 != real_sha256:
            hashes[row] = f"image_sha256 is {sha256}, the bytes have {real_sha256}"
        if real_id is not None and identity != real_id:
            ids[row] = f"id is {identity}, its content gives {real_id}"
    if not pictures_opened:
        decoded = evidence.applies_to["image_problem"] = 0
    _derive(evidence, "size_problem", sizes, applies_to=decoded)
    _derive(evidence, "sha256_problem", hashes, applies_to=decoded)
    _derive(evidence, "id_problem", ids, applies_to=int(rows["real_id"].notna().sum()))
    stray = {
        row: f"split is {split!r} in a shard of {shard_split!r}"
        for row, (split, shard_split) in enumerate(_lines(rows, "split", "shard_split"))
        if split != shard_split
    }
    _derive(evidence, "split_problem", stray, applies_to=len(rows))
    # null where the caption is blank: its length is not the news
    rows["caption_length"] = [len(text) if text and text.strip() else None for text in rows["caption"]]


def _check_crossings(evidence: MeasuredRows, *, sources: KnownSources, settings: ValidateParams) -> None:
    """No picture, and no photograph much like it, may stand in two splits."""
    rows = evidence.rows
    has_bytes = np.flatnonzero(rows["picture"].astype(bool))
    held = rows.loc[has_bytes]
    twins = shared_pictures(held["picture"].tolist(), held["split"].tolist())
    leaks = {
        int(has_bytes[row]): f"the same picture as {_place(rows, int(has_bytes[twin]))}"
        for row, twin in twins.items()
    }
    _derive(evidence, "leak_problem", leaks, applies_to=len(has_bytes))

    photographs = rows.index[
        ~rows["source"].isin(list(sources.rendered))
        & rows["phash"].astype("string").str.fullmatch(PHASH).fillna(False).astype(bool)
        & ~rows.index.isin(list(leaks))
    ].to_numpy()
    near = near_duplicates(
        np.array([int(text, 16) for text in rows.loc[photographs, "phash"]], dtype=np.uint64),
        rows.loc[photographs, "split"].tolist(),
        distance=settings.phash_distance,
    )
    problems = {
        int(photographs[row]): f"differs in {bits} of 64 bits from {_place(rows, int(photographs[other]))}"
        for row, (other, bits) in near.items()
    }
    _derive(evidence, "near_duplicate_problem", problems, applies_to=len(photographs))


def _place(rows: pd.DataFrame, row: int) -> str:
    line = rows.loc[row]
    return f"id {line['id']} of split {line['split']} ({line['shard']} row {line['row']})"


def _check_combinations(evidence: MeasuredRows) -> None:
    """`novel` holds unseen combinations of seen parts; `val` and `test` hold seen combinations."""
    rows = evidence.rows
    described = [
        (row, split, attributes)
        for row, (split, attributes) in enumerate(_lines(rows, "split", "attributes"))
        if attributes
    ]
    training = {tuple(sorted(attributes.items())) for _, split, attributes in described if split == "train"}
    pairs = seen_pairs(dict(combination) for combination in training)
    parts = {part for combination in training for part in combination}
    not_novel, unknown_parts, unseen, kinds = {}, {}, {}, Counter[str]()
    asked = Counter(split for _, split, _ in described)
    for row, split, attributes in described:
        if split == "train":
            continue
        kind = novelty_kind(attributes, pairs)
        shown = ", ".join(f"{attribute} {value}" for attribute, value in attributes.items())
        strange = sorted(f"{a} {v!r}" for a, v in attributes.items() if (a, v) not in parts)
        if split == "novel" and strange:
            unknown_parts[row] = f"training has no {' and no '.join(strange)}"
        elif split == "novel" and kind is None:
            not_novel[row] = f"training has every pair of: {shown}"
        elif split == "novel" and kind is not None:
            kinds[kind] += 1
        elif kind is not None:
            unseen[row] = f"training lacks this {kind.replace('_', ' ')}: {shown}"
    _derive(evidence, "not_novel_problem", not_novel, applies_to=asked["novel"])
    _derive(evidence, "unknown_part_problem", unknown_parts, applies_to=asked["novel"])
    _derive(evidence, "unseen_problem", unseen, applies_to=asked["val"] + asked["test"])
    evidence.novel_kinds = dict(sorted(kinds.items()))


def _check_captions(evidence: MeasuredRows, *, sources: KnownSources, settings: ValidateParams) -> None:
    """A caption must say what its row claims, where the source knows how its captions speak."""
    problems: dict[int, str] = {}
    asked = 0
    known: dict[tuple[str, str, str, str], str | None] = {}  # few captions, many rows
    lines = _lines(evidence.rows, "source", "caption", "lang", "attributes")
    for row, (source, caption, lang, attributes) in enumerate(lines):
        book = sources.phrase_books.get(source)
        if book is None or not (caption or "").strip() or lang not in settings.languages:
            continue
        asked += 1
        key = (source, caption, lang, str(sorted((attributes or {}).items())))
        if key not in known:
            known[key] = book.disagreement(caption, lang=lang, attributes=attributes or {})
        if (problem := known[key]) is not None:
            problems[row] = problem
    _derive(evidence, "caption_problem", problems, applies_to=asked)


def _count_attributes(evidence: MeasuredRows) -> None:
    counts: dict[str, Counter[str]] = {}
    training = evidence.rows.loc[evidence.rows["split"] == "train", "attributes"]
    for attributes in training:
        for attribute, value in (attributes or {}).items():
            counts.setdefault(attribute, Counter())[value] += 1
    evidence.counts = {name: dict(sorted(values.items())) for name, values in counts.items()}
    lines = []
    for attribute, values in evidence.counts.items():
        most, least = max(values, key=lambda v: values[v]), min(values, key=lambda v: values[v])
        lines.append(
            {
                "attribute": attribute,
                "most_frequent": most,
                "least_frequent": least,
                "imbalance": round(values[most] / values[least], 4),
            }
        )
    evidence.balance = _frame(lines)

"""The expectations asked, and the verdict in words and as JSON."""

from dataclasses import dataclass, field
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations.data_context import EphemeralDataContext
from great_expectations.data_context.types.base import ProgressBarsConfig

from salon.data.schema import MAPS
from salon.data.validate.expectations import Check, checks, shown
from salon.data.validate.frames import MeasuredRows
from salon.errors import SalonError
from salon.params import ValidateParams

NAMED_ROWS = 10  # failing rows named per check; the rest are counted


@dataclass(frozen=True)
class Result:
    """What became of one check."""

    name: str
    means: str
    remedy: str
    status: str
    """`passed`, `failed`, `not applicable` or `not run`."""
    checked: int
    """Lines of the frame that could be asked."""
    failed: int
    failing: list[dict[str, Any]]
    """The first failing lines: where, and what is wrong."""


@dataclass(frozen=True)
class Verdict:
    """All results, and what the data look like."""

    results: list[Result]
    measured: MeasuredRows
    settings: ValidateParams

    @property
    def failures(self) -> list[Result]:
        return [result for result in self.results if result.status == "failed"]

    @property
    def passed(self) -> bool:
        return not self.failures

    def report(self) -> dict[str, Any]:
        """Free of times, so that equal data give equal bytes."""
        measured = self.measured
        return {
            "verdict": "passed" if self.passed else "failed",
            "data_sha256": measured.data_sha256,
            "checks": [vars(result) for result in self.results],
            "observed": summarise(measured),
            "thresholds": self.settings.model_dump(mode="json"),
        }

    def complaint(self) -> str:
        """Which checks failed, on which rows, and what to do about it."""
        lines = []
        for result in self.failures:
            lines.append(f"  {result.name}: {result.failed} of {result.checked} fail")
            lines.append(f"    Expected: {result.means}")
            lines += [f"    - {_where(failing)}: {failing['problem']}" for failing in result.failing]
            if result.failed > len(result.failing):
                lines.append(f"    - and {result.failed - len(result.failing)} more")
            lines.append(f"    What to do: {result.remedy}")
        count = len(self.failures)
        head = f"the data did not pass validation: {count} of {len(self.results)} checks failed"
        return "\n".join([head, *lines])


def judge(measured: MeasuredRows, settings: ValidateParams) -> Verdict:
    """Ask every expectation of the frames."""
    asked = checks(settings)
    outcomes: dict[str, _Outcome] = {}
    # a file context would rewrite its pages and identifiers on every run
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    for name in ("shards", "splits", "balance", "rows"):
        of_frame = [check for check in asked if check.frame == name]
        if len(frame := getattr(measured, name)):
            outcomes |= _ask(context, frame, asked=of_frame, name=name)
    results = [_result(check, measured, outcomes.get(check.name, _Outcome())) for check in asked]
    return Verdict(results, measured, settings)


def summarise(measured: MeasuredRows) -> dict[str, Any]:
    """What the rows look like: counts and ranges."""
    rows = measured.rows
    if rows.empty:
        return {}

    def spread(values: "pd.Series[Any]") -> list[int] | None:
        values = values.dropna()
        return [int(values.min()), int(values.max())] if len(values) else None

    def counted(column: str) -> dict[str, int]:
        return {str(value): int(count) for value, count in rows[column].value_counts().items()}

    return {
        "rows": dict(zip(measured.splits["split"], measured.splits["rows"], strict=True)),
        "languages": counted("lang"),
        "sources": counted("source"),
        "licences": counted("licence"),
        "caption_length": spread(rows["caption"].str.len()[rows["caption"].str.strip().astype(bool)]),
        "width": spread(rows["width"]),
        "height": spread(rows["height"]),
        "distinct_captions": int(rows["caption"].nunique()),
        "distinct_pictures": int(rows["picture"].nunique()),
        "novel_kinds": measured.novel_kinds,
        "training_attributes": measured.counts,
        "imbalance": {line["attribute"]: line["imbalance"] for _, line in measured.balance.iterrows()},
    }


@dataclass
class _Outcome:
    """Lines that one check was asked of, and positions of those that failed one of its expectations."""

    checked: int = 0
    failing: set[int] = field(default_factory=set)


def _ask(
    context: EphemeralDataContext, frame: pd.DataFrame, *, asked: list[Check], name: str
) -> dict[str, _Outcome]:
    """Check name -> what became of it."""
    asset = context.data_sources.add_pandas(name).add_dataframe_asset(name)
    # Great Expectations hashes what it gets, and pickles it when that fails: only what is asked, and no dicts
    frame = frame[[column for column in frame if column in _columns(asked)]]
    maps = {name: frame[name].where(frame[name].isna(), "") for name in MAPS if name in frame}
    frame = frame.assign(**maps)
    batch = asset.add_batch_definition_whole_dataframe(name).get_batch({"dataframe": frame})
    suite = gx.ExpectationSuite(name=name)
    for check in asked:
        for expectation in check.expectations:
            expectation.meta = {"check": check.name}
            suite.add_expectation(expectation)
    outcome = batch.validate(suite, result_format={"result_format": "COMPLETE"})
    outcomes = {check.name: _Outcome() for check in asked}
    for result in outcome.results:
        meta: dict[str, Any] = getattr(result.expectation_config, "meta", None) or {}
        check_name = meta["check"]
        if "unexpected_index_list" not in result.result:
            raise SalonError(f"check {check_name} could not be evaluated: {result.exception_info}")
        found = outcomes[check_name]
        found.failing.update(result.result["unexpected_index_list"] or [])
        # an expectation skips nulls, and the rows that its condition leaves out
        answered = result.result["element_count"] - result.result.get("missing_count", 0)
        found.checked = max(found.checked, answered)
    return outcomes


def _columns(asked: list[Check]) -> set[str]:
    """The columns that the expectations of these checks name; their conditions name the split."""
    return {"split"} | {
        getattr(expectation, key)
        for check in asked
        for expectation in check.expectations
        for key in ("column", "column_A", "column_B")
        if hasattr(expectation, key)
    }


def _result(check: Check, measured: MeasuredRows, outcome: _Outcome) -> Result:
    frame: pd.DataFrame = getattr(measured, check.frame)
    lines = sorted(outcome.failing)
    if lines:
        status = "failed"
    elif measured.data_sha256 is None and check.frame != "shards":
        status = "not run"
    else:
        status = "passed" if outcome.checked else "not applicable"
    failing = [_name(check, frame.iloc[line]) for line in lines[:NAMED_ROWS]]
    return Result(check.name, check.means, check.remedy, status, outcome.checked, len(lines), failing)


def _name(check: Check, line: pd.Series) -> dict[str, Any]:
    known = ("shard", "row", "id", "split", "caption", "attribute")
    where = {column: line[column] for column in known if column in line}
    return where | {"problem": check.describe(line)}


def _where(failing: dict[str, Any]) -> str:
    if "id" in failing:
        return (
            f"{failing['shard']} row {failing['row']} (id {failing['id']}, split {failing['split']}, "
            f"caption {shown(failing['caption'])})"
        )
    return str(failing.get("shard") or failing.get("split") or failing.get("attribute"))

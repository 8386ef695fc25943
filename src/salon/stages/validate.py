"""The gate between ingestion and training: every row is measured, judged and reported."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from salon.data.ingest.worlds.base import known_sources
from salon.data.validate.drift import Drift, compare_profiles, profile_data, read_accepted
from salon.data.validate.frames import MeasuredRows, gather
from salon.data.validate.results import Verdict, judge
from salon.errors import DriftError, GateError, SalonError
from salon.files import read_json, write_json, write_text
from salon.params import Params, is_world, parse_section
from salon.paths import SPLITS, Paths
from salon.report.data_docs import write_data_docs
from salon.report.validation_summary import write_summary
from salon.stages import ingest

HOW_TO_ACCEPT = "If this is meant: `salon validate --accept`, and commit data/accepted.json."
STEP_SUMMARY = "GITHUB_STEP_SUMMARY"  # file that GitHub Actions shows on the page of a run


def run(
    params: Params,
    paths: Paths,
    *,
    accept: bool = False,
    fail_on_drift: bool = False,
    metadata_only: bool = False,
) -> None:
    """Write `reports/validation.json`, `reports/validation.md` and `reports/data_docs/`.

    Args:
        accept: Keep the figures of these data as those that later ones are compared with.
        fail_on_drift: Do not let data pass that differ from the accepted ones.
        metadata_only: Do not open the pictures, and write no verdict that lets anything train.

    Raises:
        SalonError: nothing was ingested yet.
        GateError: the rows failed a check.
        DriftError: they passed, but are not like the accepted ones.
    """
    if metadata_only and accept:
        raise SalonError("--accept looks at the pictures: leave out --metadata-only")
    paths.validation.unlink(missing_ok=True)  # a verdict on other data must not survive this run
    measured, verdict = _measure(params, paths, metadata_only=metadata_only)
    write_data_docs(paths.data_docs, verdict)
    if not metadata_only:
        write_json(paths.validation, verdict.report())
    drift = _compare(measured, verdict, params, paths)
    _summarise(verdict, drift, paths.validation_summary, source=params.ingest.source)
    page = paths.data_docs / "index.html"
    _conclude(measured, verdict, drift, paths, page=page, accept=accept, fail_on_drift=fail_on_drift)


def run_on(
    params: Params,
    paths: Paths,
    *,
    source: str | None,
    path: Path | None,
    accept: bool = False,
    fail_on_drift: bool = False,
    report: Path | None = None,
) -> None:
    """Ingest a source into a folder that is deleted afterwards, and judge it; the workspace stays as it is.

    Args:
        source: In place of `ingest.source`.
        path: In place of `ingest.path`, from the current folder.
        report: Where to write the summary; printed otherwise.

    Raises:
        SalonError: the source cannot be read.
        GateError: too many rows are in quarantine, or the rows failed a check.
        DriftError: they passed, but are not like the accepted ones.
    """
    params = _with_source(params, paths, source=source, path=path)
    paths.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="check-", dir=paths.scratch) as folder:
        scratch = Paths(Path(folder))
        ingest.run(params, scratch)
        measured, verdict = _measure(params, scratch, metadata_only=False)
    drift = _compare(measured, verdict, params, paths)
    text = _summarise(verdict, drift, report, source=params.ingest.source)
    if report is None:
        print(text)
    _conclude(measured, verdict, drift, paths, page=None, accept=accept, fail_on_drift=fail_on_drift)


def _with_source(params: Params, paths: Paths, *, source: str | None, path: Path | None) -> Params:
    raw = yaml.safe_load(paths.params.read_text(encoding="utf-8"))
    chosen = source or params.ingest.source
    shares_path = chosen == params.ingest.source or (is_world(chosen) and params.ingest.is_world)
    if path is None and not shares_path:
        raise SalonError(f"--source {chosen} needs --path: ingest.path is that of {params.ingest.source}")
    place = paths.root / params.ingest.path if path is None else path
    raw["ingest"] |= {"source": chosen, "path": str(place.resolve())}
    return parse_section(Params, raw, where=f"{paths.params} with --source {chosen}")


def _measure(params: Params, paths: Paths, *, metadata_only: bool) -> tuple[MeasuredRows, Verdict]:
    measured = gather(
        paths.interim,
        ingested=_read_counts(paths),
        sources=known_sources(params.ingest, archive=paths.root / params.ingest.path),
        settings=params.validate_,
        open_pictures=not metadata_only,
    )
    return measured, judge(measured, params.validate_)


def _compare(measured: MeasuredRows, verdict: Verdict, params: Params, paths: Paths) -> list[Drift] | None:
    accepted = read_accepted(paths.accepted)
    if accepted is None or not verdict.passed:
        return None
    return compare_profiles(accepted, profile_data(measured), params.validate_.drift)


def _summarise(verdict: Verdict, drift: Sequence[Drift] | None, path: Path | None, *, source: str) -> str:
    text = write_summary(verdict, drift, source=source)
    if path is not None:
        write_text(path, text)
    if summary := os.environ.get(STEP_SUMMARY):
        with Path(summary).open("a", encoding="utf-8") as stream:  # others write to it as well
            stream.write(text)
    return text


def _conclude(
    measured: MeasuredRows,
    verdict: Verdict,
    drift: Sequence[Drift] | None,
    paths: Paths,
    *,
    page: Path | None,
    accept: bool,
    fail_on_drift: bool,
) -> None:
    if not verdict.passed:
        raise GateError(verdict.complaint() + (f"\nFor the whole picture open {page}" if page else ""))
    passed = sum(result.status == "passed" for result in verdict.results)
    skipped = [result.name for result in verdict.results if result.status == "not applicable"]
    print(
        f"{len(measured.rows)} rows passed {passed} checks"
        + (f"; not applicable: {', '.join(skipped)}" if skipped else "")
        + (f"; see {page}" if page else "")
    )
    if accept:
        write_json(paths.accepted, profile_data(measured))
        print(f"accepted: {paths.accepted} has the figures of these data, commit it")
        return
    drifted = [
        f"  {d.name}: {d.now} (accepted: {d.accepted}; limit: {d.limit})" for d in drift or () if d.drifted
    ]
    if not drifted:
        return
    message = "\n".join(["the data are not like those last accepted:", *drifted, f"  {HOW_TO_ACCEPT}"])
    if fail_on_drift:
        raise DriftError(message)
    print(f"note: {message}")


def _read_counts(paths: Paths) -> dict[str, int]:
    """Rows per split that ingest wrote."""
    try:
        counts = read_json(paths.ingest_report)["splits"]
        return {split: int(counts[split]) for split in SPLITS}
    except FileNotFoundError:
        raise SalonError(f"{paths.ingest_report} does not exist: run the ingest stage first") from None
    except (ValueError, KeyError, TypeError):
        raise SalonError(
            f"{paths.ingest_report} does not tell the rows per split: run the ingest stage again"
        ) from None

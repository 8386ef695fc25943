"""The gate between ingestion and training: every row is measured, judged and reported."""

from salon.data.evidence import KnownSources, gather
from salon.data.sources import embedded
from salon.data.verdict import judge
from salon.errors import GateError, SalonError
from salon.jsonfile import read_json, write_json
from salon.params import Params
from salon.paths import SPLITS, Paths
from salon.report.data_docs import write_data_docs


def run(params: Params, paths: Paths) -> None:
    """Write `reports/validation.json` and `reports/data_docs/`.

    Raises:
        SalonError: nothing was ingested yet.
        GateError: the rows failed a check.
    """
    paths.validation.unlink(missing_ok=True)  # a verdict on other data must not survive this run
    ingested = _read_counts(paths)
    sources = _known_sources(params, paths)
    evidence = gather(paths.interim, ingested=ingested, sources=sources, settings=params.validate_)
    verdict = judge(evidence, params.validate_)
    write_data_docs(paths.data_docs, verdict)
    write_json(paths.validation, verdict.report())
    page = paths.data_docs / "index.html"
    if not verdict.passed:
        raise GateError(f"{verdict.complaint()}\nFor the whole picture open {page}")
    passed = sum(result.status == "passed" for result in verdict.results)
    skipped = [result.name for result in verdict.results if result.status == "not applicable"]
    print(
        f"{sum(ingested.values())} rows passed {passed} checks"
        + (f"; not applicable: {', '.join(skipped)}" if skipped else "")
        + f"; see {page}"
    )


def _known_sources(params: Params, paths: Paths) -> KnownSources:
    """Only the embedded source says how its captions speak; of one's own pictures nothing is known."""
    if params.ingest.source not in embedded.NAMES:
        return KnownSources(phrase_books={}, rendered=frozenset())
    return embedded.known_sources(params.ingest, archive=paths.root / params.ingest.path)


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

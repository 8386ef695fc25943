"""Captions and pictures in, Parquet shards of one schema out."""

import shutil
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from salon.data.ingest.prepare import Preparation
from salon.data.ingest.sources.base import open_source
from salon.data.ingest.workers import prepare_source, work_folder
from salon.data.ingest.worlds.base import count_rows, read_rows
from salon.data.ingest.write import write_shards
from salon.data.shards import ShardWriter
from salon.errors import GateError, SalonError
from salon.files import write_json
from salon.params import Params
from salon.paths import Paths

REASONS_NAMED = 3


def run(params: Params, paths: Paths) -> None:
    """Write `data/interim/` and `reports/ingest.json`.

    Raises:
        SalonError: the source cannot be read, or holds no usable row.
        GateError: more rows than `ingest.max_quarantine_fraction` cannot be used.
    """
    settings = params.ingest
    with ShardWriter(paths.interim, rows_per_shard=settings.rows_per_shard) as writer:
        found = (_render if settings.is_world else _read)(params, paths, writer)
        ingested = sum(writer.counts.values())
        if ingested + writer.quarantined != found:
            raise SalonError(
                f"{found} rows were found, but {ingested} ingested and {writer.quarantined} quarantined: "
                "this is a fault in Salon"
            )
    report = {
        "source": settings.source,
        "found": found,
        "ingested": ingested,
        "quarantined": writer.quarantined,
        "reasons": dict(writer.reasons),
        "splits": writer.counts,
    }
    write_json(paths.ingest_report, report)
    shutil.rmtree(paths.ingest_work, ignore_errors=True)  # the shards stand: nothing is to be resumed
    named = ", ".join(f"{reason} ({rows})" for reason, rows in writer.reasons.most_common(REASONS_NAMED))
    if writer.quarantined > settings.max_quarantine_fraction * found:
        raise GateError(
            f"{writer.quarantined} of {found} rows cannot be used, more than "
            f"ingest.max_quarantine_fraction = {settings.max_quarantine_fraction} allows; most often: "
            f"{named}. {paths.quarantine} names every row with its reason"
        )
    if not writer.counts["train"]:
        raise GateError(f"no row of {paths.root / settings.path} is left for training: {writer.counts}")
    print(
        f"ingested {ingested} rows into {paths.interim}: {writer.counts}; quarantined {writer.quarantined}"
        + (f": {named}" if named else "")
    )


def _render(params: Params, paths: Paths, writer: ShardWriter) -> int:
    """Render an embedded world."""
    settings = params.ingest
    rows = read_rows(settings, archive=paths.root / settings.path, seed=params.seed)
    found = 0
    for row in tqdm(rows, "ingest", count_rows(settings), unit=" rows", mininterval=0.5):
        writer.write(row)
        found += 1
    return found


def _read(params: Params, paths: Paths, writer: ShardWriter) -> int:
    """Read one's own pictures; what an interrupted run prepared is not done again."""
    settings = params.ingest.settings
    paths.ingest_work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(paths.ingest_work / "lock", timeout=0):
            source = open_source(params.ingest, path=paths.root / params.ingest.path)
            folder = work_folder(paths.ingest_work, source, settings)
            preparation = Preparation(source.name, settings, folder)
            found, chunks = prepare_source(source, preparation)
            if not found:
                raise SalonError(f"{Path(paths.root / params.ingest.path)} holds no picture")
            write_shards(folder, chunks, writer, settings=settings, seed=params.seed)
    except Timeout:
        raise SalonError(f"another ingestion is at work in {paths.ingest_work}: wait for it") from None
    return found

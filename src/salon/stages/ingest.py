"""Captions and pictures in, Parquet shards of one schema out."""

from tqdm import tqdm

from salon.data.shards import ShardWriter
from salon.data.sources import emoji
from salon.errors import GateError
from salon.jsonfile import write_json
from salon.params import Params
from salon.paths import Paths


def run(params: Params, paths: Paths) -> None:
    """Write `data/interim/` and `reports/ingest.json`.

    Raises:
        GateError: more rows than `ingest.max_quarantine_fraction` cannot be used.
    """
    settings = params.ingest
    with ShardWriter(paths.interim, rows_per_shard=settings.rows_per_shard) as writer:
        rows = emoji.read_rows(settings.scenes, archive=paths.root / settings.path, seed=params.seed)
        for row in tqdm(rows, "ingest", emoji.count_rows(settings.scenes), unit=" rows", mininterval=0.5):
            writer.write(row)
    ingested = sum(writer.counts.values())
    found = ingested + writer.quarantined
    report = {
        "source": settings.source,
        "found": found,
        "ingested": ingested,
        "quarantined": writer.quarantined,
        "splits": writer.counts,
    }
    write_json(paths.ingest_report, report)
    if writer.quarantined > settings.max_quarantine_fraction * found:
        raise GateError(
            f"{writer.quarantined} of {found} rows cannot be used, more than "
            f"ingest.max_quarantine_fraction = {settings.max_quarantine_fraction} allows: see the reasons in "
            f"{paths.quarantine}"
        )
    print(f"ingested {ingested} rows into {paths.interim}: {writer.counts}; quarantined {writer.quarantined}")

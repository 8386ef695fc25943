"""An ingestion that is killed goes on where it was, and ends with the same bytes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from own_pictures import encoded, ingest_own, own_params, paint, write_lines, write_pictures
from salon.data.ingest import prepare as chunks
from salon.data.ingest import workers
from salon.data.ingest.images import prepare_picture
from salon.data.ingest.prepare import Preparation
from salon.data.ingest.sources import imagefolder
from salon.data.ingest.workers import prepare_source
from salon.errors import SalonError
from salon.params.sources import CaptionedParams
from salon.paths import Paths
from salon.stages import ingest

PICTURES = 120
SLOWLY = """
import sys, time
from salon.data.ingest import prepare as chunks, workers
workers.CHUNK_PICTURES = 8
whole = chunks.Preparation.prepare
def prepare(self, chunk):
    time.sleep(0.3)
    return whole(self, chunk)
chunks.Preparation.prepare = prepare  # slowly; a worker asks for it by this name
from salon.cli import app
app(["ingest"])
"""


def write_folder(folder: Path, count: int = PICTURES) -> None:
    names = write_pictures(folder, count)
    write_lines(folder / "metadata.jsonl", [{"file_name": n, "text": f"this is {n}"} for n in names])


def outcome(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Paths(root).interim.iterdir()}


def test_killed_ingestion_goes_on(tmp_path, monkeypatch, capfd):
    folder, root = tmp_path / "drawings", tmp_path / "ws"
    write_folder(folder)
    own_params(root, "imagefolder", folder)
    process = subprocess.Popen([sys.executable, "-c", SLOWLY], cwd=root, stderr=subprocess.DEVNULL)
    work = Paths(root).ingest_work
    deadline = time.monotonic() + 60
    while len(done := list(work.glob("*/chunk-*.arrow"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    processes = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 3 <= len(done) < PICTURES / 8
    assert not Paths(root).interim.exists()
    assert processes
    assert psutil.wait_procs(processes, timeout=20)[1] == []  # nobody waits for work for ever

    monkeypatch.setattr(workers, "CHUNK_PICTURES", 8)
    kept = {path: path.stat().st_mtime_ns for path in work.glob("*/chunk-*.arrow")}
    prepared = []
    monkeypatch.setattr(workers.WorkerPool, "prepare", spy(prepared, kept))
    found = ingest_own(root, "imagefolder", folder)
    assert len(prepared) == PICTURES / 8 - len(kept)
    assert len(found.rows) == PICTURES
    assert not work.exists()
    monkeypatch.undo()
    ingest_own(tmp_path / "whole", "imagefolder", folder)
    assert outcome(root) == outcome(tmp_path / "whole")


def spy(prepared: list[int], kept: dict[Path, int]):
    """Note which chunks are prepared, and that those of the killed run are left alone."""
    whole = workers.WorkerPool.prepare

    def prepare(self, missing):
        for chunk in whole(self, missing):
            prepared.append(chunk.number)
            yield chunk
        assert {path: path.stat().st_mtime_ns for path in kept} == kept

    return prepare


def test_changed_source_or_settings_begin_anew(tmp_path, monkeypatch):
    folder, root = tmp_path / "drawings", tmp_path / "ws"
    write_folder(folder, 20)
    settings = CaptionedParams()
    first = workers.work_folder(root, imagefolder.open_source(settings, path=folder), settings)
    assert workers.work_folder(root, imagefolder.open_source(settings, path=folder), settings) == first
    padded = CaptionedParams(fit="pad")
    second = workers.work_folder(root, imagefolder.open_source(padded, path=folder), padded)
    assert second != first
    assert not first.exists()  # what nobody will ask for again
    (folder / "picture-3.png").write_bytes(encoded(paint(999)))
    third = workers.work_folder(root, imagefolder.open_source(padded, path=folder), padded)
    assert third != second


def test_outcome_does_not_depend_on_the_number_of_workers(tmp_path, monkeypatch):
    folder = tmp_path / "drawings"
    write_folder(folder, 40)
    monkeypatch.setattr(workers, "CHUNK_PICTURES", 7)
    for name, count in (("one", 1), ("three", 3)):
        monkeypatch.setattr(workers, "count_cpus", lambda count=count: count)
        ingest_own(tmp_path / name, "imagefolder", folder)
    assert outcome(tmp_path / "one") == outcome(tmp_path / "three")


def deadly(data, **options):
    """A decoder with a fault: it takes its process along."""
    if data.startswith(b"poison"):
        os._exit(139)
    return prepare_picture(data, **options)


def test_picture_that_kills_its_process_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "drawings"
    write_folder(folder, 30)
    for number in (4, 5, 17):
        (folder / f"picture-{number}.png").write_bytes(b"poison")
    monkeypatch.setattr(workers, "CHUNK_PICTURES", 10)
    monkeypatch.setattr(chunks, "prepare_picture", deadly)
    found = ingest_own(tmp_path / "ws", "imagefolder", folder)
    assert found.report["reasons"] == {"undecodable": 3}
    assert all("died" in line["detail"] for line in found.quarantine)
    assert len(found.rows) == 27


def test_two_ingestions_do_not_meet(tmp_path):
    from filelock import FileLock

    folder = tmp_path / "drawings"
    write_folder(folder, 5)
    params, paths = own_params(tmp_path / "ws", "imagefolder", folder), Paths(tmp_path / "ws")
    paths.ingest_work.mkdir(parents=True)
    with (
        FileLock(paths.ingest_work / "lock"),
        pytest.raises(SalonError, match="another ingestion is at work"),
    ):
        ingest.run(params, paths)


def test_lost_rows_would_be_noticed(tmp_path, monkeypatch):
    folder = tmp_path / "drawings"
    write_folder(folder, 5)
    real = chunks.Preparation._write
    monkeypatch.setattr(chunks.Preparation, "_write", lambda self, chunk, rows: real(self, chunk, rows[1:]))
    with pytest.raises(
        SalonError, match="5 rows were found, but 4 ingested and 0 quarantined: this is a fault"
    ):
        ingest_own(tmp_path / "ws", "imagefolder", folder)
    assert not Paths(tmp_path / "ws").interim.exists()


def test_progress_tells_rate_and_time_left(tmp_path, capfd):
    folder = tmp_path / "drawings"
    write_folder(folder, 30)
    source = imagefolder.open_source(CaptionedParams(), path=folder)
    (tmp_path / "work").mkdir()
    found, number = prepare_source(source, Preparation("imagefolder", CaptionedParams(), tmp_path / "work"))
    assert (found, number) == (30, 1)
    shown = capfd.readouterr().err
    assert "30/30" in shown
    assert "pictures/s" in shown


def test_rows_of_a_split_are_mixed(tmp_path):
    """Whoever takes the first rows gets no single folder."""
    folder = tmp_path / "drawings"
    for part in ("a", "b"):
        names = write_pictures(folder / part, 60, first=0 if part == "a" else 60)
        records = [{"file_name": n, "text": f"of folder {part}: {n}"} for n in names]
        write_lines(folder / part / "metadata.jsonl", records)
    rows = [row for row in ingest_own(tmp_path / "ws", "imagefolder", folder).rows if row["split"] == "train"]
    first = [row["caption"][:11] for row in rows[:20]]
    assert 4 < first.count("of folder a") < 16

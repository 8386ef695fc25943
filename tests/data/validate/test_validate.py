"""The validate stage: its verdict, its files, its message, and shards that cannot be judged."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from salon.data.ingest.worlds.base import NOTHING_KNOWN
from salon.data.schema import SCHEMA
from salon.data.validate.expectations import checks
from salon.data.validate.frames import gather
from salon.data.validate.results import judge
from salon.errors import SalonError
from salon.files import read_json, write_json
from salon.paths import SPLITS, Paths
from salon.stages import ingest, validate
from spoiling import World, repaint
from tiny import write_tiny_params


@pytest.fixture
def world(tiny_world: Path) -> World:
    return World(tiny_world)


def test_clean_data_pass_and_say_so(world, capsys):
    assert world.failures() == {}
    report = read_json(world.paths.validation)
    status = {check["name"]: check["status"] for check in report["checks"]}
    # rendered scenes look alike by design: the check is skipped, and says so
    assert status.pop("no_near_duplicates") == "not applicable"
    assert set(status.values()) == {"passed"}
    assert report["observed"]["rows"] == {"train": 240, "val": 60, "test": 60, "novel": 60}
    assert report["observed"]["novel_kinds"] == {"concept_x_background": 30, "concept_x_style": 30}
    assert report["observed"]["distinct_pictures"] == 420
    assert "420 rows passed" in capsys.readouterr().out


def test_findings_of_our_own_are_those_that_no_expectation_of_the_rows_can_say(world):
    asked = [
        expectation
        for check in checks(write_tiny_params(world.root).validate_)
        for expectation in check.expectations
    ]
    columns = {getattr(expectation, "column", None) for expectation in asked} - {None}
    findings = {"image_problem", "leak", "near_duplicate", "novelty", "unknown_parts", "disagreement"}
    of_other_frames = {"unreadable", "schema_difference", "rows", "imbalance"}
    assert columns - set(SCHEMA.names) == findings | of_other_frames


def test_report_is_the_same_byte_for_byte(world):
    world.failures()
    first = world.paths.validation.read_bytes(), (world.paths.data_docs / "index.html").read_bytes()
    world.failures()
    assert (world.paths.validation.read_bytes(), (world.paths.data_docs / "index.html").read_bytes()) == first
    assert not re.search(rb"20\d\d-\d\d-\d\d|\d\d:\d\d:\d\d", first[0])
    assert str(world.root).encode() not in first[0]


def test_digest_follows_the_rows_and_not_the_files(world):
    world.failures()
    digest = read_json(world.paths.validation)["data_sha256"]
    assert re.fullmatch(r"[0-9a-f]{64}", digest)
    params = write_tiny_params(world.root)
    ingest.run(
        params.model_copy(update={"ingest": params.ingest.model_copy(update={"rows_per_shard": 37})}),
        world.paths,
    )
    world.failures()
    assert read_json(world.paths.validation)["data_sha256"] == digest
    world.write("val", [repaint(world.read("val")[0]), *world.read("val")[1:]])
    world.failures()
    assert read_json(world.paths.validation)["data_sha256"] != digest


def drop_column(world: World) -> None:
    pq.write_table(pq.read_table(world.shard("val")).drop_columns(["licence"]), world.shard("val"))


def retype_column(world: World) -> None:
    table = pq.read_table(world.shard("val"))
    index = table.column_names.index("width")
    pq.write_table(table.set_column(index, "width", table["width"].cast(pa.int64())), world.shard("val"))


def add_column(world: World) -> None:
    table = pq.read_table(world.shard("val"))
    pq.write_table(table.append_column("mood", pa.nulls(len(table), pa.string())), world.shard("val"))


def break_text(world: World) -> None:
    table = pq.read_table(world.shard("val"))
    broken = pa.array([b"\xff\xfe"] * len(table), pa.binary()).view(pa.string())
    pq.write_table(
        table.set_column(table.column_names.index("caption"), "caption", broken), world.shard("val")
    )


@pytest.mark.parametrize(
    ("spoil", "check", "problem"),
    [
        (drop_column, "schema", "column 'licence' is missing"),
        (retype_column, "schema", "column 'width' is pyarrow.Field<width: int64>"),
        (add_column, "schema", "column 'mood' is unknown"),
        (break_text, "shards_readable", "Invalid UTF8"),
        (lambda w: w.shard("val").write_bytes(b""), "shards_readable", "is not a readable Parquet file"),
        (lambda w: w.shard("val").write_bytes(b"PAR1 nonsense PAR1"), "shards_readable", "is not a readable"),
        (
            lambda w: w.shard("val").write_bytes(w.shard("val").read_bytes()[:5000]),
            "shards_readable",
            "is not a readable Parquet file",
        ),
        (
            lambda w: w.shard("val").rename(w.paths.interim / "extra.parquet"),
            "shards_readable",
            "is not named <split>-<number>.parquet",
        ),
    ],
)
def test_spoilt_shard_is_named(world, spoil: Callable[[World], object], check, problem):
    spoil(world)
    result = world.only_failure(check)
    assert problem in result["message"]
    assert re.search(r"(val-00000|extra)\.parquet: ", result["message"])
    report = read_json(world.paths.validation)
    assert report["data_sha256"] is None
    assert {c["status"] for c in report["checks"] if c["name"] not in ("schema", "shards_readable")} == {
        "not run"
    }


def test_damage_in_the_middle_of_a_shard(world):
    data = bytearray(world.shard("val").read_bytes())
    data[2000:6000] = bytes(4000)
    world.shard("val").write_bytes(bytes(data))
    assert "val-00000.parquet" in world.only_failure("shards_readable")["message"]


def test_several_violations_are_told_together(world):
    world.change("val", caption="")
    world.change("test", licence="")
    assert set(world.failures()) == {"captions_not_blank", "licences_present", "message"}


def test_stage_says_what_must_run_first(tmp_path, world):
    params = write_tiny_params(world.root)
    world.paths.ingest_report.unlink()
    with pytest.raises(SalonError, match=r"ingest.json does not exist: run the ingest stage first"):
        validate.run(params, world.paths)
    write_json(world.paths.ingest_report, {"splits": {"train": 1}})
    with pytest.raises(SalonError, match=r"does not tell the rows per split"):
        validate.run(params, world.paths)
    empty = Paths(tmp_path / "empty")
    write_json(empty.ingest_report, {"splits": dict.fromkeys(SPLITS, 1)})
    with pytest.raises(SalonError, match=r"interim holds no shard: run the ingest stage first"):
        validate.run(params, empty)


def test_old_verdict_does_not_outlive_a_run_that_could_not_judge(world):
    world.failures()
    world.paths.ingest_report.unlink()
    with pytest.raises(SalonError):
        validate.run(write_tiny_params(world.root), world.paths)
    assert not world.paths.validation.exists()


def test_page_escapes_captions_and_needs_no_network(world):
    world.change("val", caption="<script>alert('x')</script> \"quoted\" & more", seal=True)
    world.only_failure("captions_match_attributes")
    page = (world.paths.data_docs / "index.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(" in page
    assert not re.search(r"(src|href)=\"(?!data:image/)", page)
    assert "@import" not in page
    assert "url(" not in page
    assert page.count("<img ") == 4 * 12


def test_page_shows_every_check_and_its_meaning(world):
    world.failures()
    page = (world.paths.data_docs / "index.html").read_text(encoding="utf-8")
    for check in read_json(world.paths.validation)["checks"]:
        assert f"<code>{check['name']}</code>" in page
    assert "Attribute balance in training" in page


def test_other_sources_are_judged_without_a_phrase_book(world):
    """What the checks know of a source is handed in: none of it is built in."""
    params = write_tiny_params(world.root)
    measured = gather(
        world.paths.interim,
        ingested={"train": 240, "val": 60, "test": 60, "novel": 60},
        sources=NOTHING_KNOWN,
        settings=params.validate_,
    )
    status = {result.name: result.status for result in judge(measured, params.validate_).results}
    assert status["captions_match_attributes"] == "not applicable"
    assert status["no_near_duplicates"] == "failed"  # scenes do look alike: hence the exemption


def run_command(world: World) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "salon", "validate"]
    return subprocess.run(command, cwd=world.root, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda w: w.change("train", image={"bytes": b"\x89PNG broken", "path": ""}),
            ["images_decode: 1 of 420", "train-00000.parquet row 3", "does not decode", "What to do:"],
        ),
        (
            lambda w: w.change("val", caption=""),
            ["captions_not_blank: 1 of 420", "val-00000.parquet row 3", "caption is ''"],
        ),
        (
            lambda w: w.write("test", [w.read("train")[0] | {"split": "test"}, *w.read("test")[1:]]),
            ["no_picture_in_two_splits: 2 of 420", "of split train", "The splits leak"],
        ),
    ],
)
def test_command_fails_with_a_message_and_no_traceback(world, spoil, words):
    spoil(world)
    done = subprocess.run(
        [sys.executable, "-m", "salon", "validate"],
        cwd=world.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("salon: the data did not pass validation")
    assert "Traceback" not in done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert read_json(world.paths.validation)["verdict"] == "failed"


def test_command_passes_clean_data(world):
    done = subprocess.run(
        [sys.executable, "-m", "salon", "validate"],
        cwd=world.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "420 rows passed" in done.stdout

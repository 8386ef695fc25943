"""Shards are written whole or not at all, and others read them as they are."""

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from salon.data import shards
from salon.data.ingest.worlds.scenes import encode_png
from salon.data.schema import QUARANTINE_SCHEMA, SCHEMA, STORED_SCHEMA, Row, row_id
from salon.data.shards import ShardWriter, read_shard, read_tables, shard_paths
from salon.errors import SalonError
from salon.paths import SPLITS

REFUSED = {"row": "row 7", "caption": None, "reason": "undecodable", "detail": "it broke", "source": "test"}
ATTRIBUTES = {"concept": "owl", "background": "blue"}


def make_row(number: int, split: str = "train", **changes) -> Row:
    pixels = np.full((16, 24, 3), number, dtype=np.uint8)
    values = {
        "image_bytes": encode_png(pixels),
        "caption": f"сова номер {number}",
        "lang": "ru",
        "width": 24,
        "height": 16,
        "phash": "0" * 16,
        "split": split,
        "source": "test",
        "licence": "CC0",
        "attribution": "nobody",
        "attributes": ATTRIBUTES,
    }
    return Row(**(values | changes))


@pytest.fixture
def folder(tmp_path):
    """Five training rows in three shards and one row in every other split."""
    with ShardWriter(tmp_path / "interim", rows_per_shard=2) as writer:
        for number in range(5):
            writer.write(make_row(number, attributes={} if number == 3 else ATTRIBUTES))
        for split in SPLITS[1:]:
            writer.write(make_row(9, split))
        writer.quarantine(pa.Table.from_pylist([REFUSED], schema=QUARANTINE_SCHEMA))
    return tmp_path / "interim"


def test_rows_come_back_as_they_went_in(folder):
    table = read_tables(folder, ["train"])
    assert table.schema.equals(SCHEMA)
    rows = table.to_pylist()
    assert [row["caption"] for row in rows] == [f"сова номер {number}" for number in range(5)]
    assert [dict(row["attributes"]) for row in rows] == [ATTRIBUTES] * 3 + [{}, ATTRIBUTES]
    first = rows[0]
    assert first["id"] == row_id(first["image"]["bytes"], first["caption"], first["lang"])
    assert (first["width"], first["height"], first["split"]) == (24, 16, "train")


def test_rows_are_cut_into_shards_in_order(folder):
    names = [path.name for path in shard_paths(folder, "train")]
    assert names == ["train-00000.parquet", "train-00001.parquet", "train-00002.parquet"]
    assert [read_shard(path).num_rows for path in shard_paths(folder, "train")] == [2, 2, 1]


def test_pictures_can_stay_on_disk(folder):
    table = read_tables(folder, columns=["id", "attributes"])
    assert table.column_names == ["id", "attributes"]
    assert table.num_rows == 5 + 3
    assert pa.types.is_map(table.schema.field("attributes").type)


def test_quarantine_keeps_row_and_reason(folder):
    (line,) = pq.read_table(folder / "quarantine.parquet").to_pylist()
    assert line == REFUSED


def test_pyarrow_sees_the_stored_schema(folder):
    for path in shard_paths(folder, "train"):
        assert pq.read_schema(path).equals(STORED_SCHEMA)


def check_dataset(dataset: datasets.Dataset) -> None:
    assert len(dataset) == 5
    assert isinstance(dataset.features["image"], datasets.Image)
    row = dataset[2]
    assert isinstance(row["image"], Image.Image)
    assert np.array_equal(np.asarray(row["image"]), np.full((16, 24, 3), 2))
    assert {entry["key"]: entry["value"] for entry in row["attributes"]} == ATTRIBUTES
    assert dataset[3]["attributes"] == []
    assert set(dataset.column_names) == set(SCHEMA.names)


def test_hugging_face_loads_shards_with_decoded_pictures(folder, tmp_path):
    files = [str(path) for path in shard_paths(folder, "train")]
    check_dataset(
        datasets.load_dataset(
            "parquet", data_files={"train": files}, split="train", cache_dir=str(tmp_path / "cache")
        )
    )
    check_dataset(datasets.Dataset.from_parquet(files, cache_dir=str(tmp_path / "cache2")))


def test_hugging_face_streams_shards(folder):
    files = [str(path) for path in shard_paths(folder, "train")]
    stream = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
    assert next(iter(stream))["image"].size == (24, 16)


def test_crash_in_the_middle_leaves_the_old_folder(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def crash():
        with ShardWriter(folder, rows_per_shard=1) as writer:
            writer.write(make_row(100))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crash()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_row_that_does_not_fit_the_schema_leaves_the_old_folder(folder):
    before = sorted(path.name for path in folder.iterdir())

    def write_nonsense():
        with ShardWriter(folder, rows_per_shard=10) as writer:
            writer.write(make_row(1, width="wide"))

    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        write_nonsense()
    assert sorted(path.name for path in folder.iterdir()) == before
    assert read_tables(folder, ["train"]).num_rows == 5


def test_new_rows_replace_all_old_ones(folder):
    with ShardWriter(folder, rows_per_shard=10) as writer:
        writer.write(make_row(1))
    names = {"quarantine.parquet", *(f"{split}-00000.parquet" for split in SPLITS)}
    assert {path.name for path in folder.iterdir()} == names
    assert [read_tables(folder, [split]).num_rows for split in SPLITS] == [1, 0, 0, 0]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_leftovers_of_a_killed_run_do_not_mix_in(tmp_path):
    leftover = tmp_path / ".interim.part"
    leftover.mkdir()
    (leftover / "train-00007.parquet").write_bytes(b"half a shard")
    with ShardWriter(tmp_path / "interim", rows_per_shard=10) as writer:
        writer.write(make_row(1))
    assert [path.name for path in shard_paths(tmp_path / "interim", "train")] == ["train-00000.parquet"]


def test_missing_split_is_named(tmp_path):
    with pytest.raises(SalonError, match=r"holds no shard of split 'val': run the ingest stage"):
        shard_paths(tmp_path, "val")


def test_missing_column_is_named(folder):
    with pytest.raises(SalonError, match=r"train-00000.parquet has no column 'colour'"):
        read_tables(folder, ["train"], columns=["id", "colour"])


@pytest.mark.parametrize("keep", [0, 3, 400, -8])
def test_truncated_shard_is_named(folder, keep):
    path = shard_paths(folder, "val")[0]
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SalonError, match=r"val-00000.parquet cannot be read .*run the ingest stage again"):
        read_tables(folder, ["val"])


def test_null_attributes_and_sliced_tables_survive(tmp_path):
    records = [make_row(number).to_record() for number in range(4)]
    records[1]["attributes"] = None
    path = tmp_path / "train-00000.parquet"
    table = pa.Table.from_pylist(records, schema=STORED_SCHEMA)
    pq.write_table(table, path, row_group_size=2)
    attributes = read_shard(path)["attributes"].to_pylist()
    assert attributes[1] is None
    assert [dict(attributes[number]) for number in (0, 2, 3)] == [ATTRIBUTES] * 3


def table_of(*numbers: int) -> pa.Table:
    return pa.Table.from_pylist([make_row(n).to_record() for n in numbers], schema=STORED_SCHEMA)


def test_tables_are_cut_into_shards_like_rows(tmp_path):
    with ShardWriter(tmp_path / "interim", rows_per_shard=3) as writer:
        for numbers in ((0, 1), (2, 3, 4, 5, 6), ()):
            writer.write_table("train", table_of(*numbers))
        assert writer.counts["train"] == 7
    paths = shard_paths(tmp_path / "interim", "train")
    assert [read_shard(path).num_rows for path in paths] == [3, 3, 1]
    captions = read_tables(tmp_path / "interim", ["train"])["caption"].to_pylist()
    assert captions == [f"сова номер {number}" for number in range(7)]


def test_large_pictures_close_a_shard_early(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 2 * table_of(0).nbytes)
    with ShardWriter(tmp_path / "interim", rows_per_shard=100) as writer:
        for number in range(7):
            writer.write_table("train", table_of(number))
    rows = [read_shard(path).num_rows for path in shard_paths(tmp_path / "interim", "train")]
    assert sum(rows) == 7
    assert max(rows) in (2, 3)  # closed by the row that goes over the limit


def test_quarantine_is_counted_by_reason(tmp_path):
    with ShardWriter(tmp_path / "interim", rows_per_shard=3) as writer:
        for reason in ("truncated", "undecodable", "truncated"):
            lines = [REFUSED | {"reason": reason}]
            writer.quarantine(pa.Table.from_pylist(lines, schema=QUARANTINE_SCHEMA))
        assert (writer.quarantined, dict(writer.reasons)) == (3, {"truncated": 2, "undecodable": 1})
    assert pq.read_table(tmp_path / "interim" / "quarantine.parquet").num_rows == 3

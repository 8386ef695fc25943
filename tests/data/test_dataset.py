"""A dataset decodes a split once, and answers questions of columns without decoding."""

from pathlib import Path

import pytest
from test_shards import ATTRIBUTES, make_row

from salon.data import dataset
from salon.data.dataset import Dataset, ForbiddenSplitError
from salon.data.shards import ShardWriter
from salon.paths import SPLITS


@pytest.fixture
def refuse_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(buffer: object) -> None:
        raise AssertionError("a picture is decoded")

    monkeypatch.setattr(dataset, "_decode", refuse)


def write(folder: Path, **changes: object) -> Dataset:
    with ShardWriter(folder, rows_per_shard=2) as writer:
        for split in SPLITS:
            for number in range(3):
                writer.write(make_row(number, split, **changes))
    return Dataset(folder)


def test_a_split_is_decoded_once(tmp_path: Path) -> None:
    data = write(tmp_path / "interim")
    assert data["train"] is data["train"]
    assert data["train"].images[:, 0, 0, 0].tolist() == [0, 1, 2]


@pytest.mark.usefixtures("refuse_decoding")
def test_columns_are_read_without_decoding(tmp_path: Path) -> None:
    data = write(tmp_path / "interim")
    assert data.captions("val") == [f"сова номер {number}" for number in range(3)]
    assert len(set(data.ids("val"))) == 3
    assert data.attributes("val") == [ATTRIBUTES] * 3
    assert data.has_attributes
    assert data.attribute_names == sorted(ATTRIBUTES)
    bare = write(tmp_path / "bare", attributes={})
    assert (bare.has_attributes, bare.attribute_names) == (False, [])
    with pytest.raises(AssertionError, match="a picture is decoded"):
        data["train"]


def test_what_chooses_cannot_read_what_it_is_judged_by(tmp_path: Path) -> None:
    data = write(tmp_path / "interim").only("train", "val")
    assert len(data["val"]) == len(data["train"]) == 3
    assert {path.name.partition("-")[0] for path in data.shards()} == {"train", "val"}
    refused = r"split '(test|novel)' was asked for where only train and val may be looked at"
    for split in ("test", "novel"):
        for ask in (data.__getitem__, data.ids, data.captions, data.attributes, data.factors):
            with pytest.raises(ForbiddenSplitError, match=refused):
                ask(split)
    with pytest.raises(ForbiddenSplitError):
        data.only("val", "test")  # nor is it got back

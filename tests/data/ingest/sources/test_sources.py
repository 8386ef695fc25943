"""Every source reads what the real tool of its format writes."""

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image
from pycocotools.coco import COCO

from hub_stand_in import serve_dataset
from own_pictures import Ingested, encoded, ingest_own, own_params, paint, write_lines, write_pictures
from salon.data.ingest.sources.webdataset import open_source as open_webdataset
from salon.errors import GateError, SalonError
from salon.paths import Paths
from salon.stages import ingest

HERE = Path(__file__).parent
KEEP = {"image_size": 40, "phash_distance": 0}  # as large as they are, so that pixels can be compared


def test_imagefolder_is_what_datasets_reads(tmp_path):
    folder = tmp_path / "drawings"
    for split, first in (("train", 0), ("validation", 20), ("test", 30)):
        names = write_pictures(folder / split / "of people", 10, first=first)
        records = [{"file_name": f"of people/{n}", "text": f"{split} drawing of {n}"} for n in names]
        write_lines(folder / split / "metadata.jsonl", records)
    theirs = datasets.load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(tmp_path / "cache"))
    ours = ingest_own(tmp_path / "ws", "imagefolder", folder, section=KEEP)
    assert ours.report["splits"] == {"train": 10, "val": 10, "test": 10, "novel": 0}
    for split, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        assert {row["text"] for row in theirs[name]} == {
            r["caption"] for r in ours.rows if r["split"] == split
        }
        for row in theirs[name]:
            assert np.array_equal(np.asarray(row["image"]), ours.pixels(row["text"]))


def test_imagefolder_with_csv_columns(tmp_path):
    names = write_pictures(tmp_path / "drawings", 8)
    lines = ["file_name,title,tongue,part,by,under,thing"]
    lines += [
        f'{n},"a drawing, {i}",en,{"dev" if i > 5 else "train"},Ann,CC0,{"owl" if i % 2 else "bus"}'
        for i, n in enumerate(names)
    ]
    (tmp_path / "drawings" / "metadata.csv").write_text("\n".join(lines))
    columns = {"caption": "title", "lang": "tongue", "split": "part", "attribution": "by", "licence": "under"}
    section = {"columns": columns, "attributes": {"concept": "thing"}, **KEEP}
    found = ingest_own(tmp_path / "ws", "imagefolder", tmp_path / "drawings", section=section)
    row = found.row("a drawing, 7")
    assert (row["lang"], row["split"], row["attribution"], row["licence"]) == ("en", "val", "Ann", "CC0")
    assert dict(row["attributes"]) == {"concept": "owl"}
    assert row["source"] == "imagefolder"


def test_imagefolder_with_caption_files_in_several_scripts(tmp_path):
    names = write_pictures(tmp_path / "drawings", 5)
    for number, name in enumerate(names):
        text = f"drawing number {number}\nрисунок номер {number}\n\n絵の番号は {number} です\n"
        (tmp_path / "drawings" / name).with_suffix(".txt").write_text(text, encoding="utf-8")
    found = ingest_own(tmp_path / "ws", "imagefolder", tmp_path / "drawings", section=KEEP)
    assert Counter(row["lang"] for row in found.rows) == {"en": 5, "ru": 5, "ja": 5}
    pictures = {}
    for row in found.rows:  # all captions of a picture stay together
        assert pictures.setdefault(row["image_sha256"], row["split"]) == row["split"]
    assert len(pictures) == 5


def test_captions_in_a_column_for_each_language(tmp_path):
    (name, other) = write_pictures(tmp_path / "drawings", 2)
    records = [
        {"file_name": name, "english": "an owl", "russian": ["сова", "и снова сова"]},
        {"file_name": other, "english": "a bus", "russian": None},
    ]
    write_lines(tmp_path / "drawings" / "metadata.jsonl", records)
    section = {"columns": {"caption": {"en": "english", "ru-RU": "russian"}}}
    found = ingest_own(tmp_path / "ws", "imagefolder", tmp_path / "drawings", section=section)
    assert {(row["caption"], row["lang"]) for row in found.rows} == {
        ("an owl", "en"),
        ("сова", "ru-RU"),
        ("и снова сова", "ru-RU"),
        ("a bus", "en"),
    }


def test_rows_that_lack_what_was_asked_for(tmp_path):
    names = write_pictures(tmp_path / "drawings", 5)
    said = [
        {"thing": "owl", "part": "train", "tongue": "en"},
        {"thing": None, "part": "train", "tongue": "en"},
        {"thing": "owl", "part": "holdout", "tongue": "en"},
        {"thing": "owl", "part": "train", "tongue": "the English language"},
        {"thing": "owl"},
    ]
    records = [
        {"file_name": n, "text": f"caption of {n}"} | more for n, more in zip(names, said, strict=True)
    ]
    write_lines(tmp_path / "drawings" / "metadata.jsonl", records)
    section = {"columns": {"split": "part", "lang": "tongue"}, "attributes": {"concept": "thing"}}
    found = ingest_own(tmp_path / "ws", "imagefolder", tmp_path / "drawings", section=section)
    assert [found.reason(name) for name in names[1:4]] == [
        "attribute_missing",
        "unknown_split",
        "bad_language_tag",
    ]
    assert len(found.rows) == 2


def test_copies_in_two_splits_stay_in_training(tmp_path):
    for split in ("train", "test"):
        names = write_pictures(tmp_path / "drawings" / split, 3, first=0 if split == "train" else 2)
        records = [{"file_name": n, "text": f"{split}: {n}"} for n in names]
        write_lines(tmp_path / "drawings" / split / "metadata.jsonl", records)
    found = ingest_own(tmp_path / "ws", "imagefolder", tmp_path / "drawings")
    assert found.report["reasons"] == {"in_two_splits": 1}
    assert found.reason("test/metadata.jsonl:1") == "in_two_splits"
    assert "train/picture-2.png" in found.quarantine[0]["detail"]


def test_coco_is_what_pycocotools_reads(tmp_path):
    folder = tmp_path / "coco"
    images, annotations = [], []
    names = write_pictures(folder / "val2017", 6)
    for number, name in enumerate(names):
        images.append(
            {"id": 10 + number, "file_name": name, "license": 4, "flickr_url": f"http://f/{number}"}
        )
        for caption in ("an owl on a branch", "a bird that sits"):
            annotations.append(
                {"id": len(annotations), "image_id": 10 + number, "caption": f"{caption}, seen {number}"}
            )
    content = {
        "info": {},
        "licenses": [{"id": 4, "name": "Attribution License", "url": "http://l/"}],
        "images": images,
        "annotations": annotations,
    }
    (folder / "annotations").mkdir()
    file = folder / "annotations" / "captions_val2017.json"
    file.write_text(json.dumps(content))
    theirs = COCO(str(file))
    ours = ingest_own(tmp_path / "ws", "coco", folder, section=KEEP)
    assert ours.report["splits"]["val"] == len(ours.rows) == 12
    for identity in theirs.getImgIds():
        (image,) = theirs.loadImgs(identity)
        pixels = np.asarray(Image.open(folder / "val2017" / image["file_name"]))
        for annotation in theirs.loadAnns(theirs.getAnnIds(imgIds=identity)):
            row = ours.row(annotation["caption"])
            assert np.array_equal(ours.pixels(annotation["caption"]), pixels)
            assert (row["licence"], row["attribution"]) == ("Attribution License", image["flickr_url"])


@pytest.fixture(scope="module", params=["kept", "written now"])
def img2dataset_shards(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards that img2dataset itself wrote from a server on this machine: before, and for this test."""
    if request.param == "kept":
        return HERE / "img2dataset"
    shards = tmp_path_factory.mktemp("img2dataset")
    with tempfile.TemporaryDirectory() as environment:  # it does not run beside this project's pandas
        venv.create(environment, with_pip=True)
        python = Path(environment) / "bin" / "python"
        install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "-r", HERE / "img2dataset.lock"]
        installed = subprocess.run(install, capture_output=True, text=True, check=False)
        if installed.returncode:
            reason = (installed.stderr.strip().splitlines() or ["no reason given"])[-1]
            pytest.skip(f"img2dataset cannot be installed, only its kept shards are read: {reason}")
        write = [python, HERE / "write_img2dataset.py", shards]
        written = subprocess.run(write, capture_output=True, text=True, check=False)
        assert written.returncode == 0, written.stdout + written.stderr
    return shards


def test_webdataset_as_img2dataset_writes_it(img2dataset_shards, tmp_path):
    columns = {"licence": "licence", "attribution": "author"}
    section = {
        "columns": columns,
        "attributes": {"concept": "concept"},
        "image_size": 48,
        "phash_distance": 0,
    }
    found = ingest_own(tmp_path / "ws", "webdataset", img2dataset_shards, section=section)
    assert found.report["found"] == len(found.rows) == 6
    assert found.captions == {
        "a first drawing",
        "второй рисунок",
        'a third, "quoted"',
        "四番目の絵です",
        "a fifth drawing",
        "a sixth drawing",
    }
    for row in found.rows:
        number = int(row["attribution"].removeprefix("painter "))
        assert row["licence"] == "CC0-1.0"
        assert dict(row["attributes"]) == {"concept": ("owl", "bus")[number % 2]}
        drawn = np.asarray(paint(number).resize((48, 48)), dtype=float)
        assert np.abs(drawn - np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))).mean() < 12
    assert {row["lang"] for row in found.rows} == {"en", "ru", "ja"}
    settings = own_params(tmp_path, "webdataset", tmp_path).ingest.settings
    # the time left can be told from what img2dataset notes beside its shards
    assert open_webdataset(settings, path=img2dataset_shards).total == 6


def test_webdataset_as_webdataset_writes_it(tmp_path):
    for split in ("train", "val"):
        folder = tmp_path / "shards" / split
        folder.mkdir(parents=True)
        with webdataset.ShardWriter(str(folder / "%05d.tar"), maxcount=4, verbose=0) as writer:
            for number in range(10):
                picture = encoded(paint(number + 50 * (split == "val")))
                key = f"{number:09d}"
                writer.write({"__key__": key, "png": picture, "txt": f"{split} drawing {number}", "cls": 3})
    found = ingest_own(tmp_path / "ws", "webdataset", tmp_path / "shards", section=KEEP)
    assert found.report["splits"]["val"] == 10
    assert found.report["quarantined"] == 0
    theirs = webdataset.WebDataset(
        [str(p) for p in sorted((tmp_path / "shards" / "train").glob("*.tar"))], shardshuffle=False
    )
    seen = 0
    for sample in theirs.decode("pil"):
        assert np.array_equal(np.asarray(sample["png"]), found.pixels(sample["txt"]))
        seen += 1
    assert seen == 10


def art(count: int, *, first: int = 0) -> datasets.Dataset:
    pictures = [paint(number) for number in range(first, first + count)]
    titles = [f"picture number {number}" for number in range(first, first + count)]
    features = datasets.Features({"art": datasets.Image(), "title": datasets.Value("string")})
    return datasets.Dataset.from_dict({"art": pictures, "title": titles}, features=features)


SECTION = {"columns": {"image": "art", "caption": "title"}, **KEEP}


@pytest.mark.parametrize("source", ["parquet", "hub"])
def test_parquet_and_hub_are_what_datasets_writes(tmp_path, source):
    folder = tmp_path / "art"
    (folder / "data").mkdir(parents=True)
    art(12).to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    art(5, first=20).to_parquet(folder / "data" / "test-00000-of-00001.parquet")
    config = "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n"
    (folder / "README.md").write_text(f"---\n{config}  - split: test\n    path: data/test-*\n---\nArt.\n")
    found = ingest_own(tmp_path / "ws", source, folder, section=SECTION)
    assert found.report["splits"]["test"] == 5
    assert len(found.rows) == 17
    for number in (0, 11, 24):
        assert np.array_equal(found.pixels(f"picture number {number}"), np.asarray(paint(number)))


def test_hub_streams_a_folder_of_pictures(tmp_path):
    folder = tmp_path / "drawings"
    names = write_pictures(folder / "train", 10)
    write_lines(
        folder / "train" / "metadata.jsonl", [{"file_name": n, "text": f"this is {n}"} for n in names]
    )
    found = ingest_own(tmp_path / "ws", "hub", folder, section=KEEP)
    assert found.captions == {f"this is {name}" for name in names}


def test_hub_is_streamed_by_name(tmp_path):
    """A stand-in for the hub on this machine; the address is read when a process starts."""
    folder = tmp_path / "drawings"
    (folder / "data").mkdir(parents=True)
    art(8).to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    own_params(tmp_path / "ws", "hub", tmp_path, section={"id": "user/drawings", **SECTION})
    with serve_dataset(folder, "user/drawings") as address:
        hub = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-m", "salon", "ingest"]
        subprocess.run(command, cwd=tmp_path / "ws", env=os.environ | hub, check=True, capture_output=True)
    found = Ingested(tmp_path / "ws")
    assert len(found.rows) == 8
    assert np.array_equal(found.pixels("picture number 5"), np.asarray(paint(5)))


def test_parquet_may_hold_bytes_or_paths(tmp_path):
    names = write_pictures(tmp_path / "art", 4)
    rows = {"image": names, "text": [f"this is {name}" for name in names]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "art" / "train.parquet")
    data = [(tmp_path / "art" / name).read_bytes() for name in names]
    plain = {"image": data, "text": [f"bytes of {name}" for name in names]}
    datasets.Dataset.from_dict(plain).to_parquet(tmp_path / "plain.parquet")
    paths = ingest_own(tmp_path / "paths", "parquet", tmp_path / "art")
    plain_rows = ingest_own(tmp_path / "plain", "parquet", tmp_path / "plain.parquet")
    assert len(paths.rows) == len(plain_rows.rows) == 4


def test_broken_text_in_parquet_spoils_no_other_row(tmp_path):
    image = pa.array([encoded(paint(number)) for number in range(3)], pa.binary())
    raw = pa.array([b"an owl", b"\xff\xfe", b"a bus"], pa.binary())
    for name, text in (("text", raw.view(pa.string())), ("captions", None)):
        if text is None:
            offsets = pa.array([0, 1, 2, 3], pa.int32())
            text = pa.ListArray.from_arrays(offsets, raw.view(pa.string()))
        pq.write_table(pa.table({"image": image, name: text}), tmp_path / f"{name}.parquet")
        found = ingest_own(tmp_path / name, "parquet", tmp_path / f"{name}.parquet")
        assert found.captions == {"an owl", "a bus"}
        assert found.reason("row 1") == ("caption_encoding" if name == "text" else "no_caption")


def test_hub_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    params = own_params(tmp_path, "hub", tmp_path, section={"id": "user/drawings"})
    message = r"the dataset user/drawings cannot be read from the hub .*: check its name, the network"
    with pytest.raises(SalonError, match=message):
        ingest.run(params, Paths(tmp_path))


@pytest.mark.parametrize(
    ("source", "section", "message"),
    [
        (
            "imagefolder",
            {},
            r"nowhere does not exist: ingest.path must name the folder that source imagefolder",
        ),
        ("coco", {}, r"nowhere does not exist"),
        ("webdataset", {}, r"nowhere does not exist"),
        ("parquet", {}, r"nowhere is no Parquet file and holds none"),
        ("hub", {}, r"nowhere does not exist"),
    ],
)
def test_missing_source_is_named(tmp_path, source, section, message):
    params = own_params(tmp_path, source, tmp_path / "nowhere", section=section)
    with pytest.raises(SalonError, match=message):
        ingest.run(params, Paths(tmp_path))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("imagefolder", r"holds no picture"),
        ("coco", r"has no file \*\*/captions_\*.json: set ingest.coco.annotations"),
        ("webdataset", r"holds no .tar file"),
        ("parquet", r"is no Parquet file and holds none"),
        ("hub", r"is no dataset that `datasets` can read"),
    ],
)
def test_empty_source_is_named(tmp_path, source, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SalonError, match=message):
        ingest.run(own_params(tmp_path, source, tmp_path / "empty"), Paths(tmp_path))


def test_missing_column_is_named_with_those_that_are_there(tmp_path):
    art(2).to_parquet(tmp_path / "art.parquet")
    for columns, message in (
        (
            {"image": "art"},
            r"no column 'text' or 'caption' or 'captions' for the captions; it has art, title",
        ),
        ({"caption": "title"}, r"no column 'image' with pictures; it has art, title"),
        (
            {"image": "art", "caption": "title", "lang": "tongue"},
            r"has no column 'tongue'; it has art, title",
        ),
    ):
        params = own_params(tmp_path, "parquet", tmp_path / "art.parquet", section={"columns": columns})
        with pytest.raises(SalonError, match=message):
            ingest.run(params, Paths(tmp_path))


def test_too_much_quarantine_names_the_reasons(tmp_path):
    names = write_pictures(tmp_path / "drawings", 20)
    for name in names[:3]:
        (tmp_path / "drawings" / name).write_bytes(b"garbage")
    write_lines(
        tmp_path / "drawings" / "metadata.jsonl", [{"file_name": n, "text": f"this is {n}"} for n in names]
    )
    settings = {"max_quarantine_fraction": 0.1}
    with pytest.raises(
        GateError, match=r"3 of 20 rows .* allows; most often: not_a_picture \(3\)\. .*quarantine"
    ):
        ingest_own(tmp_path / "ws", "imagefolder", tmp_path / "drawings", **settings)


def test_tar_members_are_not_unpacked(tmp_path):
    """Whatever a shard says of paths, nothing is written but what ingestion writes."""
    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards" / "0.tar", "w") as archive:
        member = tarfile.TarInfo("../../planted.png")
        member.size = len(data := encoded(paint(1)))
        archive.addfile(member, io.BytesIO(data))
    ingest_own(tmp_path / "ws", "webdataset", tmp_path / "shards")
    assert not list(tmp_path.rglob("planted*"))

"""Folders full of what goes wrong: every row ends where it belongs, nothing stops the run or vanishes."""

import csv
import io
import json
import os
import tarfile
from collections import Counter
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import hostile
from hostile import CAPTIONS, GOOD, PICTURES, SETTINGS, TWICE, Kind, json_values, texts
from own_pictures import Ingested, encoded, ingest_own, paint, write_lines
from salon.data.ingest.quarantine import Reason

SPECIAL = [  # bad rows of an imagefolder that are no matter of bytes
    ("../escape.png", Reason.OUTSIDE_SOURCE),
    ("a/../../escape.png", Reason.OUTSIDE_SOURCE),
    ("..\\escape.png", Reason.OUTSIDE_SOURCE),
    ("/etc/hostname", Reason.OUTSIDE_SOURCE),
    ("C:\\pictures\\a.png", Reason.OUTSIDE_SOURCE),
    ("nul\x00byte.png", Reason.OUTSIDE_SOURCE),
    ("link-out.png", Reason.OUTSIDE_SOURCE),
    ("link-to-itself.png", Reason.UNREADABLE),
    ("link-to-nothing.png", Reason.NO_PICTURE),
    ("missing.png", Reason.NO_PICTURE),
    ("", Reason.NO_PICTURE),
    (None, Reason.NO_PICTURE),
    (17, Reason.NO_PICTURE),
    ("x" * 300 + ".png", Reason.UNREADABLE),
    ("folder.png", Reason.NOT_A_FILE),
    ("pipe.png", Reason.NOT_A_FILE),
]
LINES = [
    (b"{broken", Reason.BAD_METADATA),
    (b"[1, 2]", Reason.BAD_METADATA),
    (b"[" * 100_000, Reason.BAD_METADATA),
    (b'"text"', Reason.BAD_METADATA),
    ('{"file_name": "сова"}'.encode("cp1251"), Reason.CAPTION_ENCODING),
    (b'{"file_name": "' + b"x" * 2_000_000 + b'"}', Reason.BAD_METADATA),
]


def place_special_files(folder: Path, outside: Path) -> None:
    outside.write_bytes(GOOD[0].data)
    (folder / "link-out.png").symlink_to(outside)
    (folder / "link-to-itself.png").symlink_to("link-to-itself.png")
    (folder / "link-to-nothing.png").symlink_to("nothing.png")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")


def write_kinds(folder: Path, kinds: list[Kind]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for kind in kinds:
        (folder / f"{kind.name}.{kind.extension}").write_bytes(kind.data)


def check(found: Ingested, expected: dict[str, Reason], *, further: Counter[str] | None = None) -> None:
    """Each bad row has its reason, the good ones came through, and there is nothing else."""
    assert {name: found.reason(name) for name in expected} == {n: r.value for n, r in expected.items()}
    counts = Counter(reason.value for reason in expected.values()) + (further or Counter())
    assert found.report["reasons"] == counts
    assert found.captions == {kind.caption for kind in GOOD}
    assert len(found.rows) == len(GOOD)


def names(kinds: list[Kind]) -> dict[str, Reason]:
    return {f"{kind.name}.{kind.extension}": kind.reason for kind in kinds}


def test_imagefolder_with_json_lines(tmp_path):
    folder = tmp_path / "drawings"
    kinds = [*GOOD, *TWICE, *PICTURES, *json_values()]
    write_kinds(folder, kinds)
    place_special_files(folder, tmp_path / "escape.png")
    records = [{"file_name": f"{kind.name}.{kind.extension}", "text": kind.caption} for kind in kinds]
    records += [{"file_name": name, "text": "a caption of its own"} for name, _ in SPECIAL]
    lines = [json.dumps(record).encode() for record in records] + [line for line, _ in LINES]
    (folder / "metadata.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    (folder / "unlisted.png").write_bytes(GOOD[0].data)
    (folder / "linked").symlink_to(tmp_path)
    found = ingest_own(tmp_path / "ws", "imagefolder", folder, section=SETTINGS)

    special = {f"metadata.jsonl:{len(kinds) + n}": reason for n, (_, reason) in enumerate(SPECIAL, start=1)}
    bad_lines = {f"metadata.jsonl:{len(records) + n}": reason for n, (_, reason) in enumerate(LINES, start=1)}
    expected = names([*TWICE, *PICTURES, *json_values()]) | bad_lines
    expected |= {"unlisted.png": Reason.NO_CAPTION, "linked": Reason.OUTSIDE_SOURCE}
    assert len(expected) + len(special) > 50
    rows = {line["row"].split(" ")[0]: line["reason"] for line in found.quarantine}
    assert {place: rows[place] for place in special} == {place: r.value for place, r in special.items()}
    # links and pipes that metadata name and that cannot be opened are found once more in the folder
    again = {"link-out.png": "outside_source", "link-to-itself.png": "unreadable"}
    again |= {"link-to-nothing.png": "no_picture", "pipe.png": "not_a_file", "folder.png": "not_a_file"}
    assert {place: rows[place] for place in again} == again
    further = Counter(reason.value for reason in special.values()) + Counter(again.values())
    check(found, expected, further=further)


def test_imagefolder_with_csv(tmp_path):
    folder = tmp_path / "drawings"
    kinds = [*GOOD, *TWICE, *PICTURES, *texts()]
    kinds = [kind for kind in kinds if kind.name != "half-pair-caption"]
    write_kinds(folder, kinds)
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["file_name", "caption"])
    writer.writerows([f"{kind.name}.{kind.extension}", kind.caption] for kind in kinds)
    writer.writerow(["more.png", "a caption", "and more", "than that"])
    writer.writerow(["only-a-name.png"])
    data = buffer.getvalue().encode() + "foreign.png,сова\r\n".encode("cp1251")
    (folder / "metadata.csv").write_bytes(data)
    for name in ("only-a-name.png", "foreign.png"):
        (folder / name).write_bytes(encoded(paint(300)))
    found = ingest_own(tmp_path / "ws", "imagefolder", folder, section=SETTINGS)
    bad = [kind for kind in kinds if kind not in GOOD]
    expected = names(bad) | {"only-a-name.png": Reason.NO_CAPTION, "foreign.png": Reason.CAPTION_ENCODING}
    check(found, expected, further=Counter({"bad_metadata": 1}))


def test_imagefolder_with_caption_files(tmp_path):
    folder = tmp_path / "drawings"
    kinds = [
        kind
        for kind in (*GOOD, *TWICE, *PICTURES, *CAPTIONS)
        if isinstance(kind.caption, str | bytes) and kind.name not in ("half-pair-caption", "utf-16-caption")
    ]
    write_kinds(folder, kinds)
    place_special_files(folder, tmp_path / "escape.png")
    for kind in kinds:
        text = kind.caption.encode() if isinstance(kind.caption, str) else kind.caption
        (folder / f"{kind.name}.txt").write_bytes(text)
    (folder / "orphan.txt").write_text("a caption without a picture\nand another one")
    (folder / "README.txt").write_text("not a caption")
    (folder / "uncaptioned.png").write_bytes(encoded(paint(300)))
    (folder / "spied.png").write_bytes(encoded(paint(301)))
    (tmp_path / "secret.txt").write_text("what nobody should read")
    (folder / "spied.txt").symlink_to(tmp_path / "secret.txt")
    found = ingest_own(tmp_path / "ws", "imagefolder", folder, section=SETTINGS)
    expected = names([kind for kind in kinds if kind not in GOOD]) | {
        "uncaptioned.png": Reason.NO_CAPTION,
        "spied.png": Reason.OUTSIDE_SOURCE,
        "link-out.png": Reason.OUTSIDE_SOURCE,
        "link-to-itself.png": Reason.UNREADABLE,
        "link-to-nothing.png": Reason.NO_PICTURE,
        "folder.png": Reason.NOT_A_FILE,
        "pipe.png": Reason.NOT_A_FILE,
    }
    check(found, expected, further=Counter({"no_picture": 2}))
    assert "what nobody should read" not in json.dumps(found.quarantine)


def test_coco(tmp_path):
    folder = tmp_path / "coco"
    kinds = [*GOOD, *TWICE, *PICTURES, *json_values()]
    write_kinds(folder / "images", kinds)
    place_special_files(folder / "images", tmp_path / "escape.png")
    special = [(name, reason) for name, reason in SPECIAL if name]
    images: list[object] = [
        {"id": n, "file_name": f"{kind.name}.{kind.extension}"} for n, kind in enumerate(kinds)
    ]
    images += [{"id": 1000 + n, "file_name": name} for n, (name, _) in enumerate(special)]
    annotations: list[object] = [
        {"id": n, "image_id": n, "caption": kind.caption} for n, kind in enumerate(kinds)
    ]
    annotations += [{"id": 0, "image_id": 1000 + n, "caption": "its caption"} for n in range(len(special))]
    images += ["no object", {"file_name": "no-id.png"}, {"id": 5000}, {"id": 0, "file_name": "good-0.png"}]
    annotations += [7, {"caption": "of nothing"}, {"image_id": 5000, "caption": "no name"}]
    annotations += [{"image_id": 9999, "caption": "no such picture"}]
    content = {"images": images, "annotations": annotations}
    (folder / "captions_train.json").write_text(json.dumps(content))
    found = ingest_own(tmp_path / "ws", "coco", folder, section=SETTINGS)
    expected = names([kind for kind in kinds if kind not in GOOD])
    expected |= {f"image id {1000 + n} ": reason for n, (_, reason) in enumerate(special)}
    expected |= {"image id 5000": Reason.NO_PICTURE, "image id 9999": Reason.NO_PICTURE}
    # the second picture with one id has no captions left; two images and two annotations are none at all
    check(found, expected, further=Counter({"bad_metadata": 4, "no_caption": 1}))


def add_member(archive: tarfile.TarFile, name: str, data: bytes, **facts: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for fact, value in facts.items():
        setattr(member, fact, value)
    archive.addfile(member, io.BytesIO(data))


def test_webdataset(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    kinds = [
        kind
        for kind in (*GOOD, *TWICE, *PICTURES, *CAPTIONS)
        if isinstance(kind.caption, str | bytes) and kind.name != "half-pair-caption"
    ]
    with tarfile.open(folder / "00000.tar", "w") as archive:
        for kind in kinds:
            text = kind.caption.encode() if isinstance(kind.caption, str) else kind.caption
            add_member(archive, f"{kind.name}.{kind.extension}", kind.data)
            add_member(archive, f"{kind.name}.txt", text)
    good = encoded(paint(300))
    with tarfile.open(folder / "00001.tar", "w") as archive:
        add_member(archive, "../up.png", good)
        add_member(archive, "/absolute.png", good)
        add_member(archive, "soft.png", b"", type=tarfile.SYMTYPE, linkname="/etc/hostname")
        add_member(archive, "hard.png", b"", type=tarfile.LNKTYPE, linkname="soft.png")
        add_member(archive, "pipe.png", b"", type=tarfile.FIFOTYPE)
        add_member(archive, "device.png", b"", type=tarfile.CHRTYPE)
        add_member(archive, "folder.png", b"", type=tarfile.DIRTYPE)
        add_member(archive, "text-alone.txt", b"a caption without a picture")
        add_member(archive, "json-alone.json", b'{"caption": "one more"}')
        add_member(archive, "picture-alone.png", good)
        add_member(archive, "bad-json.png", good)
        add_member(archive, "bad-json.json", b"{broken")
        add_member(archive, "list-json.png", good)
        add_member(archive, "list-json.json", b"[]")
        add_member(archive, "bytes-json.png", good)
        add_member(archive, "bytes-json.json", "{'caption': 'сова'}".encode("cp1251"))
        add_member(archive, "number-json.png", good)
        add_member(archive, "number-json.json", b'{"caption": 17}')
    with tarfile.open(folder / "00002.tar", "w") as archive:
        add_member(archive, "before.png", encoded(paint(301)))
        add_member(archive, "before.txt", b"")
        add_member(archive, "cut-off.bmp", encoded(paint(302, size=(150, 150)), "BMP"))
    whole = (folder / "00002.tar").read_bytes()
    (folder / "00002.tar").write_bytes(whole[:50_000])
    (folder / "00003.tar").write_bytes(b"no tar at all")
    (folder / "00004.tar").write_bytes(b"")
    (folder / "00005.tar").symlink_to(tmp_path / "elsewhere.tar")
    (tmp_path / "elsewhere.tar").write_bytes(whole)
    (folder / "00006.tar").mkdir()
    found = ingest_own(tmp_path / "ws", "webdataset", folder, section=SETTINGS)
    expected = names([kind for kind in kinds if kind not in GOOD]) | {
        "../up.png": Reason.OUTSIDE_SOURCE,
        "/absolute.png": Reason.OUTSIDE_SOURCE,
        "soft.png": Reason.OUTSIDE_SOURCE,
        "hard.png": Reason.OUTSIDE_SOURCE,
        "pipe.png": Reason.NOT_A_FILE,
        "device.png": Reason.NOT_A_FILE,
        "text-alone": Reason.NO_PICTURE,
        "json-alone": Reason.NO_PICTURE,
        "picture-alone.png": Reason.NO_CAPTION,
        "bad-json.png": Reason.BAD_METADATA,
        "list-json.png": Reason.BAD_METADATA,
        "bytes-json.png": Reason.CAPTION_ENCODING,
        "number-json.png": Reason.CAPTION_NOT_TEXT,
        "before.png": Reason.NO_CAPTION,
        "cut-off.bmp": Reason.TRUNCATED,
        "00003.tar": Reason.DAMAGED_FILE,
        "00004.tar": Reason.DAMAGED_FILE,
        "00005.tar": Reason.OUTSIDE_SOURCE,
        "00006.tar": Reason.NOT_A_FILE,
    }
    check(found, expected, further=Counter({"damaged_file": 1}))  # 00002.tar


@pytest.mark.parametrize("source", ["parquet", "hub"])
def test_parquet_and_hub(tmp_path, source):
    folder = tmp_path / "data"
    folder.mkdir()
    kinds = [kind for kind in (*GOOD, *TWICE, *PICTURES, *texts()) if kind.name != "half-pair-caption"]
    kinds.append(Kind("null-caption", Reason.NO_CAPTION, encoded(paint(310)), caption=None))
    cells = [{"bytes": kind.data, "path": f"{kind.name}.{kind.extension}"} for kind in kinds]
    cells += [None, {"bytes": None, "path": None}, {"bytes": None, "path": "missing.png"}]
    cells += [{"bytes": None, "path": name} for name in ("../up.png", "/etc/hostname")]
    captions = [kind.caption for kind in kinds] + ["a caption"] * 5
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(cells, image), "text": pa.array(captions, pa.string())})
    pq.write_table(table, folder / "train-00000-of-00001.parquet")
    if source == "parquet":
        (folder / "train-broken.parquet").write_bytes(b"PAR1 nonsense PAR1")
        raw = pa.array([b"an owl", "сова на синем".encode("cp1251")], pa.binary()).view(pa.string())
        twice = pa.array([{"bytes": encoded(paint(320)), "path": "a.png"}] * 2, image)
        pq.write_table(pa.table({"image": twice, "text": raw}), folder / "train-text.parquet")
    found = ingest_own(tmp_path / "ws", source, folder, section=SETTINGS)
    rows = {
        line["row"].rpartition("row ")[2]: line["reason"]
        for line in found.quarantine
        if "broken" not in line["row"] and "text" not in line["row"]
    }
    reasons = [kind.reason for kind in kinds]
    reasons += [Reason.NO_PICTURE] * 3 + [Reason.OUTSIDE_SOURCE] * 2
    expected = {str(n): reason.value for n, reason in enumerate(reasons) if n >= len(GOOD)}
    assert rows == expected
    assert len(rows) > 30
    if source == "parquet":
        assert found.reason("train-broken.parquet") == "damaged_file"
        assert found.reason("train-text.parquet: row 1") == "caption_encoding"
        assert found.captions == {kind.caption for kind in GOOD} | {"an owl"}
    else:
        assert found.captions == {kind.caption for kind in GOOD}


def test_numbers_for_captions_in_parquet(tmp_path):
    cells = [{"bytes": kind.data, "path": None} for kind in GOOD]
    datasets.Dataset.from_dict({"image": cells, "text": list(range(len(GOOD)))}).to_parquet(
        tmp_path / "a.parquet"
    )
    found = ingest_own(tmp_path / "ws", "parquet", tmp_path / "a.parquet", section=SETTINGS)
    assert found.report["reasons"] == {"caption_not_text": len(GOOD)}


def test_every_reason_has_been_seen_by_some_test_here():
    """A reason that no hostile row has is one that nobody knows to work."""
    files = (Path(__file__), Path(hostile.__file__), Path(__file__).parent / "sources" / "test_sources.py")
    here = "".join(file.read_text(encoding="utf-8") for file in files)
    missing = [r.name for r in Reason if f"Reason.{r.name}" not in here and f'"{r.value}"' not in here]
    assert missing == []


def test_write_lines_is_what_the_source_reads(tmp_path):
    folder = tmp_path / "drawings"
    write_kinds(folder, GOOD)
    write_lines(folder / "metadata.jsonl", [{"file_name": f"{k.name}.png", "text": k.caption} for k in GOOD])
    assert ingest_own(tmp_path / "ws", "imagefolder", folder).captions == {kind.caption for kind in GOOD}

"""Each way of spoiling good rows is caught by the check that is meant for it, and by no other."""

import io
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from salon.files import read_json
from spoiling import World, attributes_of, encode, repaint, sealed


@pytest.fixture
def world(tiny_world: Path) -> World:
    return World(tiny_world)


CELLS: list[tuple[str, dict[str, Any], str, str]] = [
    ("images_decode", {"image": {"bytes": b"\x89PNG\r\n\x1a\n garbage", "path": ""}}, "", "does not decode"),
    ("images_decode", {"image": {"bytes": b"GIF89a....", "path": ""}}, "", "does not decode"),
    ("images_decode", {"image": {"bytes": b"", "path": ""}}, "", "holds no bytes"),
    ("images_decode", {"image": None}, "", "holds no bytes"),
    ("captions_not_blank", {"caption": ""}, "", "caption is ''"),
    ("captions_not_blank", {"caption": " \n\t"}, "", "caption is"),
    ("captions_not_blank", {"caption": None}, "", "caption is None"),
    ("languages_known", {"lang": "fr"}, "seal", "lang is 'fr'"),
    ("languages_known", {"lang": None}, "", "lang is None"),
    ("sizes_match", {"width": 33}, "", "say 33x32, the picture is 32x32"),
    ("image_hashes_match", {"image_sha256": "0" * 64}, "", "image_sha256 is 000"),
    ("ids_match_content", {"id": "0" * 16}, "", "id is 0000"),
    ("phashes_well_formed", {"phash": "zz"}, "", "phash is 'zz'"),
    ("phashes_well_formed", {"phash": None}, "", "phash is None"),
    ("licences_present", {"licence": ""}, "", "licence is ''"),
    ("licences_present", {"licence": None}, "", "licence is None"),
    ("attributions_present", {"attribution": "  "}, "", "attribution is '  '"),
    ("no_nulls", {"source": None}, "", "null in source"),
    ("no_nulls", {"width": None}, "", "null in width"),
    ("split_matches_shard", {"split": "train"}, "", "split is 'train' in a shard of 'test'"),
    ("captions_match_attributes", {"attributes": []}, "", "has no attribute"),
    ("captions_match_attributes", {"caption": "a cow in a field"}, "seal", "does not name"),
]


@pytest.fixture(scope="module")
def spoilt(ingested_world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Row i of `test` has the i-th spoilt cell; judged once for all."""
    root = tmp_path_factory.mktemp("spoilt") / "world"
    shutil.copytree(ingested_world, root)
    world = World(root)
    records = world.read("test")
    for number, (_, values, seal, _) in enumerate(CELLS):
        records[number] |= values
        records[number] = sealed(records[number]) if seal else records[number]
    world.write("test", records)
    return world.failures()


@pytest.mark.parametrize(
    ("number", "cell"), enumerate(CELLS), ids=[f"{cell[0]}-{cell[1]}"[:60] for cell in CELLS]
)
def test_spoilt_cell_is_caught_by_its_check_alone(spoilt, number, cell):
    check, _, _, problem = cell
    complaints = {
        name: failing
        for name, result in spoilt.items()
        for failing in result.get("failing", [])
        if (failing["shard"], failing["row"]) == ("test-00000.parquet", number)
    }
    assert list(complaints) == [check]
    failing = complaints[check]
    assert problem in failing["problem"]
    message = spoilt["message"]["text"]
    assert f"test-00000.parquet row {number} (id {failing['id']}, split {failing['split']}" in message
    assert spoilt[check]["remedy"] in message


def test_no_other_row_is_blamed_for_a_spoilt_cell(spoilt):
    assert sum(result.get("failed", 0) for result in spoilt.values()) == len(CELLS)


def test_too_long_caption(world):
    caption = world.read("val")[3]["caption"]
    world.change("val", caption=caption + " word" * 60, seal=True)
    result = world.only_failure("caption_lengths")
    assert f"has {len(caption) + 300} characters" in result["message"]


def test_truncated_picture_does_not_decode(world):
    data = world.read("val")[3]["image"]["bytes"]
    world.change("val", image={"bytes": data[: len(data) // 2], "path": ""})
    assert "does not decode" in world.only_failure("images_decode")["message"]


def test_edited_picture_betrays_itself_by_hash_and_id(world):
    world.change("val", image=repaint(world.read("val")[3])["image"])
    failed = world.failures()
    assert set(failed) == {"image_hashes_match", "ids_match_content", "message"}


def test_huge_picture_is_reported_and_never_decoded(world):
    image = encode(Image.new("RGB", (6000, 6000)))
    world.change("val", image=image, width=6000, height=6000, seal=True)
    assert "the picture is 6000x6000" in world.only_failure("sizes_in_range")["message"]


def test_small_pictures_are_out_of_range(world):
    result = world.only_failure("sizes_in_range", image_side=[64, 128])
    assert result["failed"] == 420
    assert len(result["failing"]) == 10
    assert "and 410 more" in result["message"]


def test_row_that_stands_twice(world):
    records = world.read("val")
    world.write("val", [*records[:3], records[0], *records[4:]])
    result = world.only_failure("ids_unique")
    assert [failing["row"] for failing in result["failing"]] == [0, 3]


@pytest.mark.parametrize(
    "options", [{}, {"format": "PNG", "compress_level": 9}, {"format": "WEBP", "lossless": True}]
)
def test_leaking_split_is_caught_whatever_the_encoding(world, options):
    stolen = world.read("train")[5]
    image = stolen["image"]
    if options:
        image = encode(Image.open(io.BytesIO(image["bytes"])), **options)
        assert image["bytes"] != stolen["image"]["bytes"]
    # another caption: only the picture gives it away
    leak = sealed(stolen | {"image": image, "caption": stolen["caption"] + "!", "split": "test"})
    records = world.read("test")
    world.write("test", [*records[:3], leak, *records[4:]])
    result = world.only_failure("no_picture_in_two_splits")
    assert result["failed"] == 2
    assert f"the same picture as id {stolen['id']} of split train" in result["message"]
    assert f"the same picture as id {leak['id']} of split test" in result["message"]


def test_one_picture_with_two_captions_in_one_split_is_no_leak(world):
    records = world.read("train")
    again = sealed(records[5] | {"caption": records[5]["caption"] + "!"})
    world.write("train", [*records[:3], again, *records[4:]])
    assert world.failures() == {}


def test_held_out_combination_leaked_into_training(world):
    novel = world.read("novel")[0]
    records = world.read("train")
    world.write("train", [*records[:3], repaint(novel) | {"split": "train"}, *records[4:]])
    result = world.only_failure("novel_is_novel")
    assert novel["id"] in [failing["id"] for failing in result["failing"]]
    assert "training has every pair of" in result["message"]


def test_part_of_a_novel_row_that_training_never_shows(world):
    record = next(r for r in world.read("novel") if r["lang"] == "en" and "blue" in r["caption"])
    attributes = attributes_of(record) | {"background": "pink"}
    strange = sealed(record | {"caption": record["caption"].replace("blue", "pink")})
    strange["attributes"] = [{"key": key, "value": value} for key, value in attributes.items()]
    world.write("novel", [strange if r["id"] == record["id"] else r for r in world.read("novel")])
    result = world.only_failure("novel_parts_known")
    assert "training has no background 'pink'" in result["message"]


@pytest.mark.parametrize("split", ["val", "test"])
def test_unseen_combination_outside_novel(world, split):
    novel = repaint(world.read("novel")[0]) | {"split": split}
    records = world.read(split)
    world.write(split, [*records[:3], novel, *records[4:]])
    result = world.only_failure("val_test_seen")
    assert re.search(r"training lacks this concept x (background|style): concept ", result["message"])


def test_caption_of_another_concept(world):
    records = world.read("val")
    number = next(i for i, record in enumerate(records) if record["lang"] == "en")
    concept = attributes_of(records[number])["concept"]
    other = "pizza" if concept != "pizza" else "owl"
    records[number] = sealed(
        records[number] | {"caption": records[number]["caption"].replace(concept, other)}
    )
    world.write("val", records)
    message = world.only_failure("captions_match_attributes")["message"]
    assert f"the caption does not name concept '{concept}'" in message


def test_photographs_that_look_alike(world):
    """Rendered scenes are exempt; the same hashes of another source are not."""
    bits = 0x00FF00FF00FF00FF
    world.change("val", phash=f"{bits:016x}")
    world.change("train", phash=f"{bits ^ 0b101:016x}")
    assert world.failures() == {}
    world.change("val", source="photographs")
    assert world.failures() == {}  # its twin is rendered
    train = world.change("train", source="photographs")
    result = world.only_failure("no_near_duplicates")
    assert f"differs in 2 of 64 bits from id {train['id']} of split train" in result["message"]
    assert (result["checked"], result["failed"]) == (2, 1)
    assert world.failures(phash_distance=2) == {}


def test_rows_without_attributes_are_not_held_to_them(world):
    world.change("val", source="photographs", attributes=[], caption="a cow in a field", seal=True)
    assert world.failures() == {}
    checks = {check["name"]: check for check in read_json(world.paths.validation)["checks"]}
    assert checks["captions_match_attributes"]["checked"] == 419
    assert checks["val_test_seen"]["checked"] == 119


def test_lost_row(world):
    world.write("val", world.read("val")[:-1])
    assert "val: holds 59 rows, ingest wrote 60" in world.only_failure("nothing_lost")["message"]


def test_lost_shard(world):
    (world.paths.interim / "train-00002.parquet").unlink()
    assert "train: holds 200 rows, ingest wrote 240" in world.only_failure("nothing_lost")["message"]


def test_too_few_rows(world):
    result = world.only_failure("enough_rows", min_rows=61)
    assert [failing["split"] for failing in result["failing"]] == ["val", "test", "novel"]


def test_unbalanced_attributes(world):
    result = world.only_failure("attributes_balanced", max_attribute_imbalance=1.0)
    assert {failing["attribute"] for failing in result["failing"]} == {"concept", "style", "background"}
    assert re.search(r"\w+ occurs 1\.\d+ times as often as \w+", result["message"])

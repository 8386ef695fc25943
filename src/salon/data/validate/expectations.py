"""What must hold of the rows before anything trains on them, as Great Expectations.

The suite is built from code and `params.yaml`, never from a stored context, so that a check is changed in one
place and the same data give the same verdict.
"""

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.row_conditions import Column

from salon.data.schema import SCHEMA
from salon.data.validate.frames import PHASH
from salon.params import ValidateParams


@dataclass(frozen=True)
class Check:
    """One thing that must hold, in words and as expectations."""

    name: str
    means: str
    expectations: tuple[Expectation, ...]
    describe: Callable[[pd.Series], str]
    """A failing line -> what is wrong with it."""
    remedy: str = "Run the ingest stage again; if it comes back, mend the row in its source."
    frame: str = "rows"
    """The frame of `MeasuredRows` that it asks: shards, splits, rows or balance."""


def checks(settings: ValidateParams) -> list[Check]:
    """The suite, in the order in which a reader wants to know."""
    parts = (of_shards_and_splits, of_cells, of_texts, of_rows_together)
    return [check for part in parts for check in part(settings)]


def of_shards_and_splits(settings: ValidateParams) -> list[Check]:
    return [
        Check(
            "shards_readable", "Every shard is a whole Parquet file that a stage reads.",
            (gxe.ExpectColumnValuesToBeNull(column="unreadable"),), itemgetter("unreadable"),
            "Delete the file and run the ingest stage again.", frame="shards",
        ),
        Check(
            "schema", "Every shard has the columns and types of salon.data.schema.",
            (gxe.ExpectColumnValuesToBeNull(column="schema_difference"),), itemgetter("schema_difference"),
            "Run the ingest stage again with this version of Salon.", frame="shards",
        ),
        Check(
            "nothing_lost", "Each split holds as many rows as ingest wrote.",
            (gxe.ExpectColumnPairValuesToBeEqual(column_A="rows", column_B="ingested"),),
            lambda line: f"holds {line['rows']} rows, ingest wrote {line['ingested']}",
            "A shard was lost, doubled or edited: run the ingest stage again.", frame="splits",
        ),
        Check(
            "enough_rows", f"Each split holds at least {settings.min_rows} rows; novel may be empty.", (
                # pictures without attributes have no combinations that could be novel
                gxe.ExpectColumnValuesToBeBetween(
                    column="rows", min_value=settings.min_rows,
                    row_condition=(Column("split") != "novel") | (Column("rows") > 0),
                ),
            ), lambda line: f"holds {line['rows']} rows", "Ingest more pictures, or lower validate.min_rows.",
            frame="splits",
        ),
    ]  # fmt: skip


def of_cells(settings: ValidateParams) -> list[Check]:
    smallest, largest = settings.image_side
    own_check = ("image", "caption", "lang", "phash", "licence", "attribution")
    never_null = [name for name in SCHEMA.names if name not in own_check]
    return [
        Check(
            "no_nulls", "No column of a row is null.",
            tuple(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in never_null),
            lambda line: "null in " + ", ".join(name for name in never_null if line[name] is None),
        ),
        Check(
            "split_matches_shard", "A row's split is that of its shard.", (equal("split", "shard_split"),),
            lambda line: f"split is {line['split']!r} in a shard of {line['shard_split']!r}",
        ),
        Check(
            "ids_unique", "No two rows have one id: same picture, caption and language.",
            (gxe.ExpectColumnValuesToBeUnique(column="id"),), value_of("id"),
            "Remove the duplicate rows from the source and run the ingest stage again.",
        ),
        Check(
            "ids_match_content", "The id is the hash of the content.", (equal("id", "real_id"),),
            lambda line: f"id is {line['id']}, its content gives {line['real_id']}",
        ),
        Check(
            "images_decode", "Every picture decodes as PNG, JPEG or WebP.", (empty("image_problem"),),
            itemgetter("image_problem"),
            "The bytes are corrupt: run the ingest stage again, or remove it from its source.",
        ),
        Check(
            "image_hashes_match", "image_sha256 is the hash of the bytes.",
            (equal("image_sha256", "real_sha256"),),
            lambda line: f"image_sha256 is {line['image_sha256']}, the bytes have {line['real_sha256']}",
        ),
        Check(
            "sizes_match", "width and height are the picture's own.",
            (equal("width", "real_width"), equal("height", "real_height")), lambda line: (
                f"width and height say {line['width']}x{line['height']}, "
                f"the picture is {line['real_width']}x{line['real_height']}"
            ),
        ),
        Check(
            "sizes_in_range", f"Width and height lie between {smallest} and {largest} pixels.", tuple(
                gxe.ExpectColumnValuesToBeBetween(column=side, min_value=smallest, max_value=largest)
                for side in ("width", "height")
            ), lambda line: f"the picture is {line['width']}x{line['height']}",
            "Resize or remove the picture in the source, or change validate.image_side.",
        ),
        Check(
            "phashes_well_formed", "The perceptual hash is 16 hexadecimal digits.", present("phash", PHASH),
            value_of("phash"),
        ),
    ]  # fmt: skip


def of_texts(settings: ValidateParams) -> list[Check]:
    shortest, longest = settings.caption_length
    return [
        Check(
            "captions_not_blank", "Every caption says something.", present("caption"), value_of("caption"),
            "Caption the picture in its source or remove it, then run the ingest stage again.",
        ),
        Check(
            "caption_lengths", f"A caption has {shortest} to {longest} characters.", (
                # or is blank, which is for the check above to say
                gxe.ExpectColumnValuesToMatchRegex(
                    column="caption", regex=rf"^(?:\s*|[\s\S]{{{shortest},{longest}}})\Z"
                ),
            ), lambda line: f"the caption has {len(line['caption'])} characters",
            "Mend the caption in its source, or change validate.caption_length.",
        ),
        Check(
            "languages_known", f"The language of a caption is one of {', '.join(settings.languages)}.", (
                gxe.ExpectColumnValuesToNotBeNull(column="lang"),
                gxe.ExpectColumnValuesToBeInSet(column="lang", value_set=list(settings.languages)),
            ), value_of("lang"), "Mend the tag in the source, or add the language to validate.languages.",
        ),
        Check(
            "licences_present", "Every row names its licence.", present("licence"), value_of("licence"),
            "Record the licence in the source.",
        ),
        Check(
            "attributions_present", "Every row says whom to credit.", present("attribution"),
            value_of("attribution"), "Record the author in the source.",
        ),
    ]  # fmt: skip


def of_rows_together(settings: ValidateParams) -> list[Check]:
    return [
        Check(
            "no_picture_in_two_splits", "No picture, by its pixels, stands in two splits.", (empty("leak"),),
            itemgetter("leak"),
            "The splits leak: a model would be judged on pictures it was trained on. Split by picture "
            "and run the ingest stage again.",
        ),
        Check(
            "no_near_duplicates",
            f"No picture that is not rendered has a twin in another split that differs in fewer than "
            f"{settings.phash_distance} bits of the perceptual hash.", (empty("near_duplicate"),),
            itemgetter("near_duplicate"),
            "Put both pictures into one split or remove one, or lower validate.phash_distance.",
        ),
        Check(
            "novel_is_novel", "Every novel row has a combination of attributes that training lacks.", (
                gxe.ExpectColumnValuesToNotBeInSet(
                    column="novelty", value_set=[""], row_condition=Column("split") == "novel"
                ),
            ), lambda line: f"training has every pair of: {combination_of(line)}",
            "A held-out combination leaked into training, or the row belongs to test.",
        ),
        Check(
            "novel_parts_known", "Training has each single attribute of every novel row.",
            (empty("unknown_parts", Column("split") == "novel"),),
            lambda line: f"training has no {line['unknown_parts']}",
            "Hold out combinations, never a whole value: add training rows that have it.",
        ),
        Check(
            "val_test_seen", "Every combination of val and test occurs in training.",
            (empty("novelty", Column("split").is_in(["val", "test"])),),
            lambda line: f"training lacks this {line['novelty'].replace('_', ' ')}: {combination_of(line)}",
            "Move the row to novel, or add training rows with its combination.",
        ),
        Check(
            "captions_match_attributes",
            "A caption names the attributes of its row, where its source knows how captions speak.",
            (empty("disagreement"),), itemgetter("disagreement"),
            "The ground truth or the caption is wrong: run the ingest stage again.",
        ),
        Check(
            "attributes_balanced", f"In training, the most frequent value of an attribute occurs at most "
            f"{settings.max_attribute_imbalance:g} times as often as the least frequent.", (
                gxe.ExpectColumnValuesToBeBetween(
                    column="imbalance", max_value=settings.max_attribute_imbalance
                ),
            ), lambda line: (
                f"{line['most_frequent']} occurs {line['imbalance']} times as often as "
                f"{line['least_frequent']}"
            ), "Add rows of the rare value, or raise validate.max_attribute_imbalance.", frame="balance",
        ),
    ]  # fmt: skip


def present(column: str, regex: str = r"[\s\S]*\S[\s\S]*") -> tuple[Expectation, ...]:
    """Neither null nor blank; the pair is needed because an expectation skips nulls."""
    return (
        gxe.ExpectColumnValuesToNotBeNull(column=column),
        gxe.ExpectColumnValuesToMatchRegex(column=column, regex=rf"^(?:{regex})$"),
    )


def equal(column: str, real: str) -> Expectation:
    """The column says what was measured; a null of either is for another check to say."""
    return gxe.ExpectColumnPairValuesToBeEqual(
        column_A=column, column_B=real, ignore_row_if="either_value_is_missing"
    )


def empty(column: str, rows: Any = None) -> Expectation:
    """A finding, of all rows or of some, that nothing is wrong."""
    return gxe.ExpectColumnValuesToBeInSet(column=column, value_set=[""], row_condition=rows)


def value_of(column: str) -> Callable[[pd.Series], str]:
    return lambda line: f"{column} is {shown(line[column])}"


def combination_of(line: pd.Series) -> str:
    return ", ".join(f"{attribute} {value}" for attribute, value in line["attributes"].items())


def shown(value: object) -> str:
    """`value` as a short literal."""
    text = repr(value)
    return text if len(text) <= 80 else text[:76] + "…" + text[0]

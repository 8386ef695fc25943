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


@dataclass(frozen=True, kw_only=True)
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
    return [
        *of_shards_and_splits(settings),
        *of_cells(settings),
        *of_texts(settings),
        *of_rows_together(settings),
    ]


def of_shards_and_splits(settings: ValidateParams) -> list[Check]:
    return [
        Check(
            name="shards_readable", frame="shards",
            means="Every shard is a whole Parquet file that a stage reads.",
            expectations=(gxe.ExpectColumnValuesToBeNull(column="unreadable"),),
            describe=itemgetter("unreadable"),
            remedy="Delete the file and run the ingest stage again.",
        ),
        Check(
            name="schema", frame="shards",
            means="Every shard has the columns and types of salon.data.schema.",
            expectations=(gxe.ExpectColumnValuesToBeNull(column="schema_difference"),),
            describe=itemgetter("schema_difference"),
            remedy="Run the ingest stage again with this version of Salon.",
        ),
        Check(
            name="nothing_lost", frame="splits", means="Each split holds as many rows as ingest wrote.",
            expectations=(gxe.ExpectColumnPairValuesToBeEqual(column_A="rows", column_B="ingested"),),
            describe=lambda line: f"holds {line['rows']} rows, ingest wrote {line['ingested']}",
            remedy="A shard was lost, doubled or edited: run the ingest stage again.",
        ),
        Check(
            name="enough_rows", frame="splits",
            means=f"Each split holds at least {settings.min_rows} rows; novel may be empty.",
            expectations=(
                # pictures without attributes have no combinations that could be novel
                gxe.ExpectColumnValuesToBeBetween(
                    column="rows", min_value=settings.min_rows,
                    row_condition=(Column("split") != "novel") | (Column("rows") > 0),
                ),
            ),
            describe=lambda line: f"holds {line['rows']} rows",
            remedy="Ingest more pictures, or lower validate.min_rows.",
        ),
    ]  # fmt: skip


def of_cells(settings: ValidateParams) -> list[Check]:
    smallest, largest = settings.image_side
    own_check = ("image", "caption", "lang", "phash", "licence", "attribution")
    never_null = [name for name in SCHEMA.names if name not in own_check]
    return [
        Check(
            name="no_nulls", means="No column of a row is null.",
            expectations=tuple(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in never_null),
            describe=lambda line: "null in " + ", ".join(name for name in never_null if line[name] is None),
        ),
        Check(
            name="split_matches_shard", means="A row's split is that of its shard.",
            expectations=(equal("split", "shard_split"),),
            describe=lambda line: f"split is {line['split']!r} in a shard of {line['shard_split']!r}",
        ),
        Check(
            name="ids_unique", means="No two rows have one id: same picture, caption and language.",
            expectations=(gxe.ExpectColumnValuesToBeUnique(column="id"),),
            remedy="Remove the duplicate rows from the source and run the ingest stage again.",
            describe=value_of("id"),
        ),
        Check(
            name="ids_match_content", means="The id is the hash of the content.",
            expectations=(equal("id", "real_id"),),
            describe=lambda line: f"id is {line['id']}, its content gives {line['real_id']}",
        ),
        Check(
            name="images_decode", means="Every picture decodes as PNG, JPEG or WebP.",
            expectations=(empty("image_problem"),),
            remedy="The bytes are corrupt: run the ingest stage again, or remove it from its source.",
            describe=itemgetter("image_problem"),
        ),
        Check(
            name="image_hashes_match", means="image_sha256 is the hash of the bytes.",
            expectations=(equal("image_sha256", "real_sha256"),),
            describe=lambda line: (
                f"image_sha256 is {line['image_sha256']}, the bytes have {line['real_sha256']}"
            ),
        ),
        Check(
            name="sizes_match", means="width and height are the picture's own.",
            expectations=(equal("width", "real_width"), equal("height", "real_height")),
            describe=lambda line: (
                f"width and height say {line['width']}x{line['height']}, "
                f"the picture is {line['real_width']}x{line['real_height']}"
            ),
        ),
        Check(
            name="sizes_in_range", means=f"Width and height lie between {smallest} and {largest} pixels.",
            expectations=tuple(
                gxe.ExpectColumnValuesToBeBetween(column=side, min_value=smallest, max_value=largest)
                for side in ("width", "height")
            ),
            remedy="Resize or remove the picture in the source, or change validate.image_side.",
            describe=lambda line: f"the picture is {line['width']}x{line['height']}",
        ),
        Check(
            name="phashes_well_formed", means="The perceptual hash is 16 hexadecimal digits.",
            expectations=present("phash", PHASH),
            describe=value_of("phash"),
        ),
    ]  # fmt: skip


def of_texts(settings: ValidateParams) -> list[Check]:
    shortest, longest = settings.caption_length
    return [
        Check(
            name="captions_not_blank", means="Every caption says something.",
            expectations=present("caption"),
            remedy="Caption the picture in its source or remove it, then run the ingest stage again.",
            describe=value_of("caption"),
        ),
        Check(
            name="caption_lengths", means=f"A caption has {shortest} to {longest} characters.",
            expectations=(
                # or is blank, which is for the check above to say
                gxe.ExpectColumnValuesToMatchRegex(
                    column="caption", regex=rf"^(?:\s*|[\s\S]{{{shortest},{longest}}})\Z"
                ),
            ),
            remedy="Mend the caption in its source, or change validate.caption_length.",
            describe=lambda line: f"the caption has {len(line['caption'])} characters",
        ),
        Check(
            name="languages_known",
            means=f"The language of a caption is one of {', '.join(settings.languages)}.",
            expectations=(
                gxe.ExpectColumnValuesToNotBeNull(column="lang"),
                gxe.ExpectColumnValuesToBeInSet(column="lang", value_set=list(settings.languages)),
            ),
            remedy="Mend the tag in the source, or add the language to validate.languages.",
            describe=value_of("lang"),
        ),
        Check(
            name="licences_present", means="Every row names its licence.",
            expectations=present("licence"),
            remedy="Record the licence in the source.", describe=value_of("licence"),
        ),
        Check(
            name="attributions_present", means="Every row says whom to credit.",
            expectations=present("attribution"),
            remedy="Record the author in the source.", describe=value_of("attribution"),
        ),
    ]  # fmt: skip


def of_rows_together(settings: ValidateParams) -> list[Check]:
    return [
        Check(
            name="no_picture_in_two_splits", means="No picture, by its pixels, stands in two splits.",
            expectations=(empty("leak"),),
            remedy="The splits leak: a model would be judged on pictures it was trained on. Split by picture "
            "and run the ingest stage again.",
            describe=itemgetter("leak"),
        ),
        Check(
            name="no_near_duplicates",
            expectations=(empty("near_duplicate"),),
            means=f"No picture that is not rendered has a twin in another split that differs in fewer than "
            f"{settings.phash_distance} bits of the perceptual hash.",
            remedy="Put both pictures into one split or remove one, or lower validate.phash_distance.",
            describe=itemgetter("near_duplicate"),
        ),
        Check(
            name="novel_is_novel",
            means="Every novel row has a combination of attributes that training lacks.",
            expectations=(
                gxe.ExpectColumnValuesToNotBeInSet(
                    column="novelty", value_set=[""], row_condition=Column("split") == "novel"
                ),
            ),
            remedy="A held-out combination leaked into training, or the row belongs to test.",
            describe=lambda line: f"training has every pair of: {combination_of(line)}",
        ),
        Check(
            name="novel_parts_known", means="Training has each single attribute of every novel row.",
            expectations=(empty("unknown_parts", Column("split") == "novel"),),
            remedy="Hold out combinations, never a whole value: add training rows that have it.",
            describe=lambda line: f"training has no {line['unknown_parts']}",
        ),
        Check(
            name="val_test_seen", means="Every combination of val and test occurs in training.",
            expectations=(empty("novelty", Column("split").is_in(["val", "test"])),),
            remedy="Move the row to novel, or add training rows with its combination.",
            describe=lambda line: (
                f"training lacks this {line['novelty'].replace('_', ' ')}: {combination_of(line)}"
            ),
        ),
        Check(
            name="captions_match_attributes",
            means="A caption names the attributes of its row, where its source knows how captions speak.",
            expectations=(empty("disagreement"),),
            remedy="The ground truth or the caption is wrong: run the ingest stage again.",
            describe=itemgetter("disagreement"),
        ),
        Check(
            name="attributes_balanced", frame="balance",
            means=f"In training, the most frequent value of an attribute occurs at most "
            f"{settings.max_attribute_imbalance:g} times as often as the least frequent.",
            expectations=(
                gxe.ExpectColumnValuesToBeBetween(
                    column="imbalance", max_value=settings.max_attribute_imbalance
                ),
            ),
            describe=lambda line: (
                f"{line['most_frequent']} occurs {line['imbalance']} times as often as "
                f"{line['least_frequent']}"
            ),
            remedy="Add rows of the rare value, or raise validate.max_attribute_imbalance.",
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

"""What must hold of the rows before anything trains on them, as Great Expectations.

The suite is built from code and `params.yaml`, never from a stored context, so that a check is changed in one
place and the same data give the same verdict.
"""

from collections.abc import Callable
from dataclasses import dataclass

import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.expectations.expectation import Expectation

from salon.data.schema import SCHEMA
from salon.data.validate.frames import PHASH, MeasuredRows
from salon.params import ValidateParams

INGEST_AGAIN = "Run the ingest stage again; if it comes back, mend the row in its source."


@dataclass(frozen=True)
class Check:
    """One thing that must hold, in words and as expectations."""

    name: str
    frame: str
    """The frame of `MeasuredRows` that it asks: shards, splits, rows or balance."""
    means: str
    remedy: str
    expectations: tuple[Expectation, ...]
    describe: Callable[[pd.Series], str]
    """A failing line -> what is wrong with it."""
    applies_to: int | None = None
    """Lines that can be asked, where these are not all."""


def checks(evidence: MeasuredRows, settings: ValidateParams) -> list[Check]:
    """The suite, in the order in which a reader wants to know."""

    def derived(column: str, *, name: str, means: str, remedy: str = INGEST_AGAIN) -> Check:
        null = gxe.ExpectColumnValuesToBeNull(column=column)
        applies_to = evidence.applies_to.get(column)
        return Check(name, "rows", means, remedy, (null,), lambda line: str(line[column]), applies_to)

    def direct(
        *expectations: Expectation, name: str, column: str, means: str, remedy: str = INGEST_AGAIN
    ) -> Check:
        return Check(
            name, "rows", means, remedy, expectations, lambda line: f"{column} is {shown(line[column])}"
        )

    shortest, longest = settings.caption_length
    smallest, largest = settings.image_side
    own_check = ("image", "caption", "lang", "phash", "licence", "attribution")
    never_null = [name for name in SCHEMA.names if name not in own_check]
    return [
        Check(
            "shards_readable", "shards", "Every shard is a whole Parquet file that a stage reads.",
            "Delete the file and run the ingest stage again.",
            (gxe.ExpectColumnValuesToBeNull(column="unreadable"),), lambda line: line["unreadable"],
        ),
        Check(
            "schema", "shards", "Every shard has the columns and types of salon.data.schema.",
            "Run the ingest stage again with this version of Salon.",
            (gxe.ExpectColumnValuesToBeNull(column="schema_difference"),),
            lambda line: line["schema_difference"],
        ),
        Check(
            "nothing_lost", "splits", "Each split holds as many rows as ingest wrote.",
            "A shard was lost, doubled or edited: run the ingest stage again.",
            (gxe.ExpectColumnPairValuesToBeEqual(column_A="rows", column_B="ingested"),),
            lambda line: f"holds {line['rows']} rows, ingest wrote {line['ingested']}",
        ),
        Check(
            "enough_rows",
            "splits",
            f"Each split holds at least {settings.min_rows} rows; novel may be empty.",
            "Ingest more pictures, or lower validate.min_rows.",
            (gxe.ExpectColumnValuesToBeBetween(column="rows_wanted", min_value=settings.min_rows),),
            lambda line: f"holds {line['rows']} rows",
        ),
        Check(
            "no_nulls", "rows", "No column of a row is null.", INGEST_AGAIN,
            tuple(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in never_null),
            lambda line: "null in " + ", ".join(name for name in never_null if line[name] is None),
        ),
        derived("split_problem", name="split_matches_shard", means="A row's split is that of its shard."),
        direct(
            gxe.ExpectColumnValuesToBeUnique(column="id"), name="ids_unique", column="id",
            means="No two rows have one id: same picture, caption and language.",
            remedy="Remove the duplicate rows from the source and run the ingest stage again.",
        ),
        derived("id_problem", name="ids_match_content", means="The id is the hash of the content."),
        derived(
            "image_problem", name="images_decode", means="Every picture decodes as PNG, JPEG or WebP.",
            remedy="The bytes are corrupt: run the ingest stage again, or remove it from its source.",
        ),
        derived("sha256_problem", name="image_hashes_match", means="image_sha256 is the hash of the bytes."),
        derived("size_problem", name="sizes_match", means="width and height are the picture's own."),
        Check(
            "sizes_in_range", "rows", f"Width and height lie between {smallest} and {largest} pixels.",
            "Resize or remove the picture in the source, or change validate.image_side.",
            tuple(
                gxe.ExpectColumnValuesToBeBetween(column=side, min_value=smallest, max_value=largest)
                for side in ("real_width", "real_height")
            ),
            lambda line: f"the picture is {line['real_width']}x{line['real_height']}",
        ),
        direct(
            *_present("phash", PHASH), name="phashes_well_formed", column="phash",
            means="The perceptual hash is 16 hexadecimal digits.",
        ),
        direct(
            *_present("caption"), name="captions_not_blank", column="caption",
            means="Every caption says something.",
            remedy="Caption the picture in its source or remove it, then run the ingest stage again.",
        ),
        Check(
            "caption_lengths", "rows", f"A caption has {shortest} to {longest} characters.",
            "Mend the caption in its source, or change validate.caption_length.",
            (
                gxe.ExpectColumnValuesToBeBetween(
                    column="caption_length", min_value=shortest, max_value=longest
                ),
            ),
            lambda line: f"the caption has {line['caption_length']} characters",
        ),
        direct(
            gxe.ExpectColumnValuesToNotBeNull(column="lang"),
            gxe.ExpectColumnValuesToBeInSet(column="lang", value_set=list(settings.languages)),
            name="languages_known", column="lang",
            means=f"The language of a caption is one of {', '.join(settings.languages)}.",
            remedy="Mend the tag in the source, or add the language to validate.languages.",
        ),
        direct(*_present("licence"), name="licences_present", column="licence",
               means="Every row names its licence.", remedy="Record the licence in the source."),
        direct(*_present("attribution"), name="attributions_present", column="attribution",
               means="Every row says whom to credit.", remedy="Record the author in the source."),
        derived(
            "leak_problem", name="no_picture_in_two_splits",
            means="No picture, by its pixels, stands in two splits.",
            remedy="The splits leak: a model would be judged on pictures it was trained on. Split by picture "
            "and run the ingest stage again.",
        ),
        derived(
            "near_duplicate_problem", name="no_near_duplicates",
            means=f"No picture that is not rendered has a twin in another split that differs in fewer than "
            f"{settings.phash_distance} bits of the perceptual hash.",
            remedy="Put both pictures into one split or remove one, or lower validate.phash_distance.",
        ),
        derived(
            "not_novel_problem", name="novel_is_novel",
            means="Every novel row has a combination of attributes that training lacks.",
            remedy="A held-out combination leaked into training, or the row belongs to test.",
        ),
        derived(
            "unknown_part_problem", name="novel_parts_known",
            means="Training has each single attribute of every novel row.",
            remedy="Hold out combinations, never a whole value: add training rows that have it.",
        ),
        derived(
            "unseen_problem", name="val_test_seen",
            means="Every combination of val and test occurs in training.",
            remedy="Move the row to novel, or add training rows with its combination.",
        ),
        derived(
            "caption_problem", name="captions_match_attributes",
            means="A caption names the attributes of its row, where its source knows how captions speak.",
            remedy="The ground truth or the caption is wrong: run the ingest stage again.",
        ),
        Check(
            "attributes_balanced", "balance",
            f"In training, the most frequent value of an attribute occurs at most "
            f"{settings.max_attribute_imbalance:g} times as often as the least frequent.",
            "Add rows of the rare value, or raise validate.max_attribute_imbalance.",
            (
                gxe.ExpectColumnValuesToBeBetween(
                    column="imbalance", max_value=settings.max_attribute_imbalance
                ),
            ),
            lambda line: (
                f"{line['most_frequent']} occurs {line['imbalance']} times as often as "
                f"{line['least_frequent']}"
            ),
        ),
    ]  # fmt: skip


def _present(column: str, regex: str = r"[\s\S]*\S[\s\S]*") -> tuple[Expectation, ...]:
    """Neither null nor blank; the pair is needed because an expectation skips nulls."""
    return (
        gxe.ExpectColumnValuesToNotBeNull(column=column),
        gxe.ExpectColumnValuesToMatchRegex(column=column, regex=rf"^(?:{regex})$"),
    )


def shown(value: object) -> str:
    """`value` as a short literal."""
    text = repr(value)
    return text if len(text) <= 80 else text[:76] + "…" + text[0]

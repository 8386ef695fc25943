"""The gate before every training: what must hold of the rows, as a Great Expectations suite.

The suite is built here, from code and `params.yaml`, in an ephemeral context: a file context would rewrite its
pages and identifiers on every run.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.expectations.expectation import Expectation

from salon.data.evidence import PHASH, Evidence
from salon.data.schema import SCHEMA
from salon.errors import SalonError
from salon.params import ValidateParams

NAMED_ROWS = 10  # failing rows named per check; the rest are counted

INGEST_AGAIN = "Run the ingest stage again; if it comes back, mend the row in its source."


@dataclass(frozen=True)
class Check:
    """One thing that must hold, in words and as expectations."""

    name: str
    frame: str
    """The frame of `Evidence` that it asks: shards, splits, rows or balance."""
    means: str
    remedy: str
    expectations: tuple[Expectation, ...]
    describe: Callable[[pd.Series], str]
    """A failing line -> what is wrong with it."""
    applies_to: int | None = None
    """Lines that can be asked, where these are not all."""


@dataclass(frozen=True)
class Result:
    """What became of one check."""

    name: str
    means: str
    remedy: str
    status: str
    """`passed`, `failed`, `not applicable` or `not run`."""
    checked: int
    """Lines of the frame that were asked."""
    failed: int
    failing: list[dict[str, Any]] = field(default_factory=list)
    """The first failing lines: where, and what is wrong."""


@dataclass(frozen=True)
class Verdict:
    """All results, and what the data look like."""

    results: list[Result]
    evidence: Evidence
    settings: ValidateParams

    @property
    def failures(self) -> list[Result]:
        return [result for result in self.results if result.status == "failed"]

    @property
    def passed(self) -> bool:
        return not self.failures

    def report(self) -> dict[str, Any]:
        """Free of times, so that equal data give equal bytes."""
        evidence = self.evidence
        return {
            "verdict": "passed" if self.passed else "failed",
            "data_sha256": evidence.data_sha256,
            "checks": [vars(result) for result in self.results],
            "observed": summarise(evidence),
            "thresholds": self.settings.model_dump(mode="json"),
        }

    def complaint(self) -> str:
        """Which checks failed, on which rows, and what to do about it."""
        lines = []
        for result in self.failures:
            lines.append(
                f"  {result.name}: {result.failed} of {result.checked} fail. Expected: {result.means}"
            )
            lines += [f"    - {_where(failing)}: {failing['problem']}" for failing in result.failing]
            if result.failed > len(result.failing):
                lines.append(f"    - and {result.failed - len(result.failing)} more")
            lines.append(f"    What to do: {result.remedy}")
        count = len(self.failures)
        head = f"the data did not pass validation: {count} of {len(self.results)} checks failed"
        return "\n".join([head, *lines])


def judge(evidence: Evidence, settings: ValidateParams) -> Verdict:
    """Ask every expectation of the frames."""
    asked = checks(evidence, settings)
    failed: dict[str, list[int]] = {}
    for frame in ("shards", "splits", "balance", "rows"):
        of_frame = [check for check in asked if check.frame == frame]
        if len(getattr(evidence, frame)):
            failed |= _failing_lines(getattr(evidence, frame), of_frame, name=frame)
    return Verdict([_result(check, evidence, failed) for check in asked], evidence, settings)


def checks(evidence: Evidence, settings: ValidateParams) -> list[Check]:
    """The suite, in the order in which a reader wants to know."""

    def derived(column: str, *, name: str, means: str, remedy: str = INGEST_AGAIN) -> Check:
        null = gxe.ExpectColumnValuesToBeNull(column=column)
        applies_to = evidence.applies_to.get(column)
        return Check(name, "rows", means, remedy, (null,), lambda line: str(line[column]), applies_to)

    def direct(
        *expectations: Expectation, name: str, column: str, means: str, remedy: str = INGEST_AGAIN
    ) -> Check:
        return Check(
            name, "rows", means, remedy, expectations, lambda line: f"{column} is {_shown(line[column])}"
        )

    shortest, longest = settings.caption_length
    smallest, largest = settings.image_side
    leaves_no_null = [name for name in SCHEMA.names if name not in ("image", "caption", "lang", "licence")]
    leaves_no_null = [name for name in leaves_no_null if name not in ("attribution", "phash")]
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
            "enough_rows", "splits", f"Each split holds at least {settings.min_rows} rows.",
            "Ingest more pictures, or lower validate.min_rows.",
            (gxe.ExpectColumnValuesToBeBetween(column="rows", min_value=settings.min_rows),),
            lambda line: f"holds {line['rows']} rows",
        ),
        Check(
            "no_nulls", "rows", "No column of a row is null.", INGEST_AGAIN,
            tuple(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in leaves_no_null),
            lambda line: "null in " + ", ".join(name for name in leaves_no_null if line[name] is None),
        ),
        derived("split_problem", name="split_matches_shard", means="A row's split is that of its shard."),
        direct(
            gxe.ExpectColumnValuesToBeUnique(column="id"), name="ids_unique", column="id",
            means="No two rows have one id: same picture, caption and language.",
            remedy="Remove the duplicate rows from the source and run the ingest stage again.",
        ),
        derived("id_problem", name="ids_match_content", means="The id is the hash of picture, caption, language."),
        derived(
            "image_problem", name="images_decode", means="Every picture decodes as PNG, JPEG or WebP.",
            remedy="The bytes are corrupt: run the ingest stage again, or remove the picture from the source.",
        ),
        derived("sha256_problem", name="image_hashes_match", means="image_sha256 is the hash of the bytes."),
        derived("size_problem", name="sizes_match", means="width and height are those of the decoded picture."),
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
            remedy="The splits leak: whoever is judged on this picture was trained on it. Split by picture and "
            "run the ingest stage again.",
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
                f"{line['most_frequent']} is {line['imbalance']} times as frequent as {line['least_frequent']}"
            ),
        ),
    ]  # fmt: skip


def summarise(evidence: Evidence) -> dict[str, Any]:
    """What the rows look like: counts and ranges."""
    rows = evidence.rows
    if rows.empty:
        return {}

    def spread(column: str) -> list[int] | None:
        values = rows[column].dropna()
        return [int(values.min()), int(values.max())] if len(values) else None

    def counted(column: str) -> dict[str, int]:
        return {str(value): int(count) for value, count in rows[column].value_counts().items()}

    return {
        "rows": dict(zip(evidence.splits["split"], evidence.splits["rows"], strict=True)),
        "languages": counted("lang"),
        "sources": counted("source"),
        "licences": counted("licence"),
        "caption_length": spread("caption_length"),
        "width": spread("real_width"),
        "height": spread("real_height"),
        "distinct_captions": int(rows["caption"].nunique()),
        "distinct_pictures": int(rows["picture"].nunique()),
        "novel_kinds": evidence.novel_kinds,
        "training_attributes": evidence.counts,
        "imbalance": dict(zip(evidence.balance["attribute"], evidence.balance["imbalance"], strict=True))
        if len(evidence.balance)
        else {},
    }


def _present(column: str, regex: str = r"[\s\S]*\S[\s\S]*") -> tuple[Expectation, ...]:
    """Neither null nor blank; the pair is needed because an expectation skips nulls."""
    return (
        gxe.ExpectColumnValuesToNotBeNull(column=column),
        gxe.ExpectColumnValuesToMatchRegex(column=column, regex=rf"^(?:{regex})$"),
    )


def _failing_lines(frame: pd.DataFrame, asked: list[Check], *, name: str) -> dict[str, list[int]]:
    """Check name -> positions of the lines that fail one of its expectations."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas(name).add_dataframe_asset(name)
    batch = asset.add_batch_definition_whole_dataframe(name).get_batch({"dataframe": frame})
    suite = gx.ExpectationSuite(name=name)
    for check in asked:
        for expectation in check.expectations:
            expectation.meta = {"check": check.name}
            suite.add_expectation(expectation)
    outcome = batch.validate(suite, result_format={"result_format": "COMPLETE"})
    failing: dict[str, set[int]] = {}
    for result in outcome.results:
        check_name = result.expectation_config.meta["check"]
        if "unexpected_index_list" not in result.result:
            raise SalonError(f"check {check_name} could not be evaluated: {result.exception_info}")
        failing.setdefault(check_name, set()).update(result.result["unexpected_index_list"] or [])
    return {check_name: sorted(lines) for check_name, lines in failing.items()}


def _result(check: Check, evidence: Evidence, failed: dict[str, list[int]]) -> Result:
    frame: pd.DataFrame = getattr(evidence, check.frame)
    lines = failed.get(check.name, [])
    checked = len(frame) if check.applies_to is None else check.applies_to
    if lines:
        status = "failed"
    elif evidence.data_sha256 is None and check.frame != "shards":
        status = "not run"
    else:
        status = "passed" if checked else "not applicable"
    failing = [_name(check, frame.loc[line]) for line in lines[:NAMED_ROWS]]
    return Result(check.name, check.means, check.remedy, status, checked, len(lines), failing)


def _name(check: Check, line: pd.Series) -> dict[str, Any]:
    known = ("shard", "row", "id", "split", "caption", "attribute")
    where = {column: line[column] for column in known if column in line}
    return where | {"problem": check.describe(line)}


def _where(failing: dict[str, Any]) -> str:
    if "id" in failing:
        return (
            f"{failing['shard']} row {failing['row']} (id {failing['id']}, split {failing['split']}, "
            f"caption {_shown(failing['caption'])})"
        )
    return str(failing.get("shard") or failing.get("split") or failing.get("attribute"))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:76] + "…" + text[0]

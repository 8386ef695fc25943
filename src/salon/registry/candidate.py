"""What a method hands in to be registered: weights, ledger, verdicts, and digests of all of them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from salon.data.shards import read_tables
from salon.errors import SalonError
from salon.files import file_digests, lines_sha256, read_json
from salon.inference.bundle import CLIP, CODEC, METHOD
from salon.judging.alignment import ALL
from salon.judging.metrics import better_than_real
from salon.judging.record import Gate, Judgement, read_output
from salon.judging.sentinel_rules import REAL
from salon.paths import Paths
from salon.registry.promotion import PromotionEvidence

SELECTION_SPLIT = "val"  # selection looks at val, the report at test
ALIGNMENT = "alignment"
EXAMPLES_PER_LANGUAGE = 2  # chips under the prompt, two rows of them
MAX_EXAMPLE_LENGTH = 100  # characters; a line on a page
MODEL_FILES = ("model.safetensors", "config.json")  # what determines a picture; the ledger does not


@dataclass(frozen=True)
class Candidate:
    """One trained and judged method, read from the workspace."""

    method: str
    folders: Mapping[str, Path]
    """The weights, by part of the bundle."""
    grids: list[Path]
    config: Mapping[str, Any]
    ledger: Mapping[str, Any]
    judgement: Judgement
    """Without metrics that misplace a sentinel on these data."""
    evidence: PromotionEvidence
    licences: list[str]
    examples: list[str]
    """A few captions of the training pictures, in every language that they have."""
    model_sha256: str
    data_sha256: str

    @property
    def name(self) -> str:
        """Name in the registry."""
        return registered_name(self.method)

    @property
    def steps(self) -> int:
        return int(self.ledger["own"]["steps"])

    @property
    def judgement_sha256(self) -> str:
        """Changes when the same weights are judged again with another result."""
        parts = (self.judgement.to_json(), vars(self.evidence))
        return lines_sha256(json.dumps(part, sort_keys=True) for part in parts)

    def flat_metrics(self) -> dict[str, float]:
        """The judgement as `split/term`, interval ends as `_low` and `_high`; of each phrasing one figure."""
        flat: dict[str, float] = {}
        for keys, figure in self.judgement.estimates().items():
            *parts, group, term = (re.sub(r"[^\w.-]", "_", key) for key in keys)
            # one term a figure, though alignment has several
            name = "/".join([*parts, f"{group}_{term}" if group.startswith(ALIGNMENT) else f"{group}/{term}"])
            if "phrasing" not in keys[:-1]:
                flat |= {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
            elif term == ALL:
                flat[name] = figure.value
        measured = self.judgement.to_json()
        for group in ("memorisation", "cost"):
            numbers = {t: value for t, value in measured[group].items() if isinstance(value, int | float)}
            flat |= {f"{group}/{term}": float(value) for term, value in numbers.items()}
        return flat


def registered_name(method: str) -> str:
    """Name of a method in the registry."""
    return f"salon-{method}"


def read_candidate(paths: Paths, method: str) -> Candidate:
    """Read what training, evaluation and validation wrote.

    Raises:
        SalonError: a stage before registration has not run, or its files belong to another version of Salon.
    """
    folder = paths.selected(method)
    config, ledger = (
        read_output(folder / file, dict, stage=f"select@{method}")
        for file in ("config.json", "training.json")
    )
    scores = read_output(
        paths.samples(method) / f"{SELECTION_SPLIT}.json",
        lambda rows: {row["id"]: int(row[ALL]) for row in rows},
        stage=f"evaluate@{method}",
    )
    validation = read_output(paths.validation, dict, stage="validate")
    gate = Gate.load(paths.sentinels)
    needs = ("test/alignment/all", "memorisation/copy_rate", "cost")
    judgement = Judgement.load(paths.metrics(method), needs=needs)
    real = Judgement.load(paths.metrics(f"sentinel-{REAL}"))
    judgement = judgement.without(gate.withheld.keys() | better_than_real(judgement, real).keys())
    assert judgement.cost
    assert judgement.memorisation
    if not paths.scorer.is_dir():
        raise SalonError(f"{paths.scorer} does not exist: run the scorer stage first")
    judge = file_digests(paths.scorer) or file_digests(paths.retriever)  # of attributes, or of captions
    try:
        return Candidate(
            method=method,
            folders={METHOD: folder, CLIP: paths.clip, CODEC: paths.codec(config["config"]["codec"])},
            grids=sorted(paths.samples(method).glob("*.png")),
            config=config,
            ledger=ledger,
            judgement=judgement,
            evidence=PromotionEvidence(
                scores=scores,
                latency_ms_p50=float(judgement.cost.latency_ms_p50),
                copy_rate=float(judgement.memorisation.copy_rate.value),
                parameters=judgement.cost.parameters,
                data_valid=validation["verdict"] == "passed",
                sentinels_passed=gate.passed is True,
                evaluation_set=lines_sha256([*sorted(scores), *judge.values()]),
            ),
            licences=_licences(paths),
            examples=_examples(paths),
            model_sha256=model_sha256(paths, method),
            data_sha256=validation["data_sha256"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SalonError(
            f"{method}: the reports lack or spoil {error}: run `dvc repro` again for this version of Salon"
        ) from None


def model_sha256(paths: Paths, method: str) -> str:
    """Digest of everything that determines a picture: the method, its codec and the towers.

    Raises:
        SalonError: the method, its codec or the towers were not trained, or its settings not selected.
    """
    folder = paths.selected(method)
    if not all((folder / file).is_file() for file in MODEL_FILES):
        raise SalonError(f"{folder} holds no trained method: run `dvc repro select@{method}` first")
    codec = paths.codec(read_json(folder / "config.json")["config"]["codec"])
    if not (codec / "config.json").is_file():
        raise SalonError(f"{codec} holds no codec: run its codec stage first")
    if not paths.clip.is_dir():
        raise SalonError(f"{paths.clip} does not exist: run the train_clip stage first")
    method_files, codec_files = file_digests(folder), file_digests(codec)
    return lines_sha256(
        [f"method/{file} {method_files[file]}" for file in MODEL_FILES]
        + [f"codec/{file} {codec_files[file]}" for file in MODEL_FILES if file in codec_files]
        + [f"clip/{file} {digest}" for file, digest in file_digests(paths.clip).items()]
    )


def _licences(paths: Paths) -> list[str]:
    """Every licence of the training pictures with whom to name."""
    rows = read_tables(paths.interim, ["train"], columns=["licence", "attribution"]).to_pylist()
    found = sorted({(row["licence"], row["attribution"]) for row in rows})
    return [f"{attribution} ({licence})" for licence, attribution in found]


def _examples(paths: Paths) -> list[str]:
    """Captions from all over the alphabet, the languages in turn."""
    found: dict[str, set[str]] = {}
    for row in read_tables(paths.interim, ["train"], columns=["caption", "lang"]).to_pylist():
        if len(row["caption"]) <= MAX_EXAMPLE_LENGTH:
            found.setdefault(row["lang"], set()).add(row["caption"])
    chosen = []
    for captions in (sorted(found[lang]) for lang in sorted(found)):
        count = min(EXAMPLES_PER_LANGUAGE, len(captions))
        chosen.append([captions[(2 * i + 1) * len(captions) // (2 * count)] for i in range(count)])
    return [caption for turn in zip_longest(*chosen) for caption in turn if caption is not None]

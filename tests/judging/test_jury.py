"""The whole jury on a small ingested world: sentinels in every metric, one metric broken on purpose."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn import functional

from own_metric import ROUGHNESS
from salon.codecs.pixels import PixelCodec
from salon.data.dataset import CaptionedImages, Dataset
from salon.data.ingest.worlds.base import open_composer
from salon.errors import GateError, SalonError
from salon.evaluation.prompts import select_first
from salon.files import write_json
from salon.judging import jury as jury_module
from salon.judging import memorisation as memorisation_module
from salon.judging import reference as reference_module
from salon.judging import scorers as scorers_module
from salon.judging import shadows as shadows_module
from salon.judging.classifier import AttributeScorer
from salon.judging.jury import JudgedImages, Jury
from salon.judging.memorisation import distinct_rows, thumbnails
from salon.judging.metrics import METRICS
from salon.judging.retriever import Retriever
from salon.judging.sentinel_rules import SENTINELS, Rule
from salon.judging.statistics import Estimate
from salon.judging.views import SHARP, SMOOTHED, SMOOTHED_AGAIN
from salon.params import Params, load_params
from salon.paths import Paths
from salon.stages import ingest, scorer, sentinels
from tiny import write_tiny_params

FIGURES = {"value", "low", "high", "n"}


class Oracle(AttributeScorer):
    """A scorer that knows the answers: it stands in for one trained for minutes."""

    def __init__(self, data: Dataset) -> None:
        super().__init__({"concept": ["owl"]}, width=1)
        self.answers: dict[bytes, dict[str, str]] = {}
        for split in ("train", "val", "test", "novel"):
            rows = data[split]
            for picture, attributes in zip(rows.images, rows.attributes, strict=True):
                self.answers[picture.numpy().tobytes()] = attributes

    def judge(self, images: torch.Tensor, *, batch_size: int = 256) -> list[dict[str, str]]:
        nothing = {"concept": "-", "style": "-", "background": "-"}
        return [self.answers.get(picture.numpy().tobytes(), nothing) for picture in images]


class OracleRetriever(Retriever):
    """One that finds the caption of every picture that the scorer above knows."""

    def __init__(self, scorer: Oracle, data: Dataset) -> None:
        super().__init__(width=8)
        self.scorer = scorer
        self.meaning: dict[str, dict[str, str]] = {}
        for split in ("train", "val", "test", "novel"):
            rows = data[split]
            self.meaning |= dict(zip(rows.captions, rows.attributes, strict=True))

    def choose(self, images, captions, candidates) -> list[int]:
        return [
            next((row for row in rows if self.meaning[captions[row]] == seen), rows[-1])
            for seen, rows in zip(self.scorer.judge(images), candidates.tolist(), strict=True)
        ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Params, Paths]:
    root = tmp_path_factory.mktemp("jury")
    write_tiny_params(root, evaluate={"pictures": 60, "bootstrap_samples": 300})
    text = (root / "params.yaml").read_text(encoding="utf-8")
    for old, new in (("train: 240", "train: 900"), ("val: 60", "val: 120"), ("test: 60", "test: 120")):
        assert old in text
        text = text.replace(old, new)
    (root / "params.yaml").write_text(text, encoding="utf-8")
    params = load_params(root / "params.yaml").model_copy(update={"codecs": {}})  # none is trained here
    ingest.run(params, Paths(root))
    return params, Paths(root)


@pytest.fixture(autouse=True)
def oracle(world, monkeypatch) -> None:
    shutil.rmtree(world[1].scratch, ignore_errors=True)  # no digest tells what is patched below
    data = Dataset(world[1].interim)
    scorer = Oracle(data)
    retriever = OracleRetriever(scorer, data)
    monkeypatch.setattr(scorers_module.AttributeScorer, "from_pretrained", lambda folder: scorer)
    monkeypatch.setattr(scorers_module.Retriever, "from_pretrained", lambda folder: retriever)


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_sentinel_stands_where_it_must_in_every_metric(world) -> None:
    params, paths = world
    sentinels.run(params, paths)
    verdict = read(paths.sentinels)
    assert verdict["passed"]
    assert len(verdict["rules"]) >= 26
    found = {name: read(paths.metrics(f"sentinel-{name}")) for name in SENTINELS}
    assert read(paths.codec_floors) == {}
    for name, metrics in found.items():
        for metric in METRICS.values():
            if "test" in metric.splits and not metric.detailed and metric.name != "factor_diversity":
                assert metrics["test"][metric.name].keys() == FIGURES
        copies = {"copy_rate", "nearer", "drawing", "another_drawing"}
        assert {"power", "detectable_rate", *copies} <= metrics["memorisation"].keys()
        assert all(metrics["memorisation"][key].keys() >= FIGURES for key in copies)
        assert metrics["test"]["alignment"]["all"].keys() == FIGURES
        assert {"alignment_en", "alignment_ru"} <= metrics["test"].keys()
        phrasings = metrics["test"]["phrasing"]
        assert set(phrasings) <= {f"{lang}-{number}" for lang in ("en", "ru") for number in range(1, 5)}
        assert sum(phrasing["all"]["n"] for phrasing in phrasings.values()) == 60
        assert all("alignment" in kind for kind in metrics.get("novel", {}).values())
        assert (paths.samples(f"sentinel-{name}") / "test.png").is_file()


def test_sentinels_are_held_to_the_rules_of_a_metric_of_ones_own(world, monkeypatch) -> None:
    params, paths = world
    monkeypatch.setitem(METRICS, ROUGHNESS.name, ROUGHNESS)
    sentinels.run(params, paths)
    (rule,) = (rule for rule in read(paths.sentinels)["rules"] if "roughness" in rule)
    assert rule.startswith("test/roughness: real ")
    assert " must be below noise " in rule
    assert read(paths.metrics("sentinel-noise"))["test"]["roughness"].keys() == FIGURES

    always = replace(ROUGHNESS, rules=(Rule("test/roughness", "noise", "real", "lower"),))
    monkeypatch.setitem(METRICS, ROUGHNESS.name, always)
    with pytest.raises(GateError, match=r"test/roughness: noise .* must be below real"):
        sentinels.run(params, paths)


def test_of_val_likeness_alone_is_measured_beside_the_captions(world) -> None:
    params, paths = world
    data = Dataset(paths.interim)
    jury = Jury(data, paths, params.evaluate)
    prompts = select_first(data["val"], 60)
    seen = JudgedImages(jury, "val", prompts, prompts.images)
    likeness = {"likeness": seen.distance(SMOOTHED), "likeness_again": seen.distance(SMOOTHED_AGAIN)}
    assert seen.figures.metrics == likeness | {"r_precision": seen.r_precision}
    assert "neighbours" not in vars(seen)  # which only `test` asks for


@pytest.fixture
def bare(world, tmp_path) -> Paths:
    """The same pictures and captions, without attributes."""
    paths = Paths(tmp_path)
    shutil.copytree(world[1].interim, paths.interim)
    write_json(paths.ingest_report, read(world[1].ingest_report))
    write_json(paths.validation, {"data_sha256": "0" * 64})  # the runs say on what they trained
    for shard in paths.interim.glob("*-*.parquet"):
        table = pq.read_table(shard)
        column = table.schema.field("attributes")
        nothing = pa.array([[]] * table.num_rows, column.type)
        pq.write_table(table.set_column(table.column_names.index("attributes"), column, nothing), shard)
    return paths


def test_rows_without_attributes_are_judged_by_their_captions(world, bare, monkeypatch) -> None:
    """The scorers are really trained here, and the sentinels stand where they must."""
    params, paths = world[0], bare
    monkeypatch.undo()
    scorer.run(params, paths)
    found = read(paths.scorer_metrics)
    assert found["held_out_accuracy"]["test"]["caption"] == found["held_out_r_precision"]["test"] > 0.2
    assert not (paths.scorer / "model.safetensors").exists()

    sentinels.run(params, paths)
    assert read(paths.sentinels)["passed"]
    metrics = {name: read(paths.metrics(f"sentinel-{name}")) for name in ("real", "shuffled")}
    for figures in metrics.values():
        assert figures["test"]["alignment"].keys() == {"caption", "all"}
        assert figures["test"]["alignment"]["all"]["value"] == figures["test"]["r_precision"]["value"]
    assert "novel" not in metrics["real"]  # nobody knows what is new in a bare caption
    assert "phrasing" not in metrics["real"]["test"]


def test_neighbours_that_mean_nothing_are_withheld_where_captions_alone_are_known(
    world, bare, monkeypatch
) -> None:
    params, paths = world[0], bare
    measure = jury_module.neighbours
    half = Estimate(0.5, 0.4, 0.6, 60)
    monkeypatch.setattr(
        jury_module,
        "neighbours",
        lambda *given, **options: replace(measure(*given, **options), density=half),
    )
    sentinels.run(params, paths)
    verdict = read(paths.sentinels)
    assert verdict["passed"]
    assert "test/density" in verdict["withheld"]
    assert "must be above noise" in verdict["withheld"]["test/density"]


def test_one_metric_broken_on_purpose_closes_the_gate(world, monkeypatch) -> None:
    params, paths = world
    blind = torch.Generator().manual_seed(0)
    monkeypatch.setattr(
        jury_module.Extractors,
        "extract",
        lambda self, images, view, *, seed: torch.randn(len(images), 8, generator=blind),
    )
    with pytest.raises(GateError, match=r"test/likeness: real .* must be below noise") as closed:
        sentinels.run(params, paths)
    assert "test/density: real" in str(closed.value)  # with attributes nothing is withheld
    assert not read(paths.sentinels)["passed"]
    assert "likeness" in read(paths.metrics("sentinel-noise"))["test"]  # the figures are there to see


def test_a_copy_test_broken_on_purpose_closes_the_gate(world, monkeypatch) -> None:
    params, paths = world
    blind = torch.Generator().manual_seed(0)
    monkeypatch.setattr(
        memorisation_module,
        "squared_distances",
        lambda left, right: torch.rand(len(left), len(right), generator=blind),
    )
    with pytest.raises(GateError, match=r"memorisation/copy_rate: real .* must be below copycat") as closed:
        sentinels.run(params, paths)
    assert "memorisation/nearer: copycat" in str(closed.value)


class Coarse(PixelCodec):
    """A codec that keeps no more than cells of four pixels."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        cells = functional.avg_pool2d(latents, 4)
        return functional.interpolate(cells, scale_factor=4, mode="bilinear")


def test_a_perfect_memoriser_is_found_through_a_codec(world) -> None:
    params, paths = world
    composer = open_composer(params.ingest, archive=paths.root / params.ingest.path, seed=params.seed)
    data = Dataset(paths.interim)
    jury = Jury(data, paths, params.evaluate, composer=composer)
    found = sentinels.judge_memoriser(jury, Coarse(), data["train"].images[:60])
    assert found["memorisation", "copy_rate"].low > 0.8
    assert found["memorisation", "nearer"].low > 0.8
    honest = sentinels.judge_memoriser(jury, Coarse(), data["test"].images[:60])
    assert honest["memorisation", "copy_rate"].low == 0
    assert honest["memorisation", "nearer"].low < 0.5 < honest["memorisation", "nearer"].high


def test_shadows_show_what_training_shows_and_strangers_drawings_that_it_lacks(world) -> None:
    params, paths = world
    composer = open_composer(params.ingest, archive=paths.root / params.ingest.path, seed=params.seed)
    data = Dataset(paths.interim)
    pools = Jury(data, paths, params.evaluate, composer=composer).pools
    training = data["train"]
    assert pools.others.shape == training.images.shape
    assert len(distinct_rows(torch.cat([training.images, pools.others]))) == 2 * len(training)
    # what is drawn is the same: a scene and its shadow are nearer than scenes of other drawings
    own = (thumbnails(training.images) - thumbnails(pools.others)).norm(dim=1)
    other = (thumbnails(training.images) - thumbnails(pools.others.roll(1, dims=0))).norm(dim=1)
    assert (own < other).float().mean() > 0.9
    assert len(pools.strangers) >= 100
    drawings = {composer.drawing(row) for row in training.attributes}
    strange, rows = composer.strangers(100)
    assert not drawings & {strange.drawing(row) for row in rows}


def test_too_few_pictures_beside_the_prompts_are_refused(world, monkeypatch) -> None:
    params, paths = world
    greedy = params.evaluate.model_copy(update={"pictures": 1000})
    data = Dataset(paths.interim)
    assert Jury(data, paths, greedy)  # every test picture is a prompt's; the 120 of val are enough

    shutil.rmtree(paths.scratch)
    few = {split: select_first(data[split], 50) for split in ("train", "val", "test")}
    monkeypatch.setattr(Dataset, "__getitem__", lambda self, split: few[split])
    with pytest.raises(SalonError, match=r"50 real pictures .* lower evaluate\.pictures"):
        Jury(Dataset(paths.interim), paths, greedy)


def test_a_picture_with_several_captions_is_reference_once_and_never_beside_its_prompt(world) -> None:
    params, paths = world
    distinct = Jury(Dataset(paths.interim), paths, params.evaluate).reference.features[SHARP]
    assert len(distinct) == 180  # 120 of test without 60 prompts, 120 of val

    class Twice(Dataset):
        """Each picture of a split under two captions, the second ones behind."""

        def __getitem__(self, split: str) -> CaptionedImages:
            rows = super().__getitem__(split)
            twice = [*range(len(rows)), *range(len(rows))]
            return rows.take(twice) if split != "train" else rows

    shutil.rmtree(paths.scratch)
    again = Jury(Twice(paths.interim), paths, params.evaluate)
    assert torch.equal(again.reference.features[SHARP], distinct)


def test_what_real_pictures_are_to_the_jury_is_worked_out_once(world, monkeypatch) -> None:
    params, paths = world
    data = Dataset(paths.interim)
    composer = open_composer(params.ingest, archive=paths.root / params.ingest.path, seed=params.seed)
    first = Jury(data, paths, params.evaluate, composer=composer)
    prompts = select_first(data["test"], 60)

    def measure(jury: Jury) -> tuple[object, ...]:
        seen = JudgedImages(jury, "test", prompts, prompts.images)
        return seen.memorisation, seen.neighbours, seen.distance(SMOOTHED)

    verdict = measure(first)

    def refuse(*given: object) -> None:
        raise AssertionError("works it out again")

    monkeypatch.setattr(reference_module, "_work_out", refuse)
    monkeypatch.setattr(shadows_module, "_render", refuse)
    monkeypatch.setattr(shadows_module, "_hold_out", refuse)
    again = Jury(data, paths, params.evaluate, composer=composer)
    assert measure(again) == verdict
    other_seed = params.evaluate.model_copy(update={"seed": 1})
    with pytest.raises(AssertionError, match="again"):
        Jury(data, paths, other_seed)
    with pytest.raises(AssertionError, match="again"):
        assert Jury(data, paths, params.evaluate).pools  # without shadows

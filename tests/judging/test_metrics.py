"""The table of metrics and the record: what stands in one row is known wherever figures are used."""

import json
import re
from pathlib import Path

import pytest

from comparison_workspace import estimate, make_workspace
from own_metric import ROUGHNESS
from salon.errors import SalonError
from salon.files import read_json, write_json
from salon.judging.metrics import METRICS, judging_networks, sentinel_rules
from salon.judging.record import Gate, Judgement
from salon.judging.sentinel_rules import SENTINELS
from salon.stages import compare, evaluate
from tiny import REPOSITORY
from workspaces import NAME, Workspace

SOURCES = REPOSITORY / "src" / "salon"
JUDGED = sorted(
    file
    for file in (REPOSITORY / "reports" / "metrics").glob("*.json")
    if "memorisation" in json.loads(file.read_text(encoding="utf-8"))
)


@pytest.fixture
def with_roughness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, ROUGHNESS.name, ROUGHNESS)


@pytest.mark.parametrize("file", JUDGED, ids=lambda file: file.stem)
def test_a_record_read_and_written_is_the_same_to_the_byte(file: Path, tmp_path: Path) -> None:
    judgement = Judgement.load(file)
    judgement.save(tmp_path / file.name)
    assert (tmp_path / file.name).read_bytes() == file.read_bytes()
    assert Judgement.load(tmp_path / file.name) == judgement


def test_the_committed_records_are_there_and_hold_every_metric_of_the_table() -> None:
    assert len(JUDGED) == 14
    for file in JUDGED:
        measured = Judgement.load(file).estimates()
        for metric in METRICS.values():
            keys = {keys for keys in measured if metric.name in keys}
            splits = {keys[0] for keys in keys}
            wanted = {"memorisation"} if metric.on == "copies" else set(metric.splits)
            if file.stem.startswith("sentinel"):  # nothing is chosen among them; most are of `test` alone
                assert splits in ({"test"}, wanted - {"val"}), metric.name
            else:
                assert splits == wanted, metric.name


def test_sentinels_of_the_repository_still_say_what_they_said(tmp_path: Path) -> None:
    gate = Gate.load(REPOSITORY / "reports" / "sentinels.json")
    codecs = read_json(REPOSITORY / "reports/codec_floors.json")
    rules = sentinel_rules(attributes=True, codecs=list(codecs))
    assert len(gate.rules) == len(rules) + 1  # two kinds of novelty
    gate.save(tmp_path / "sentinels.json")
    assert (tmp_path / "sentinels.json").read_bytes() == (REPOSITORY / "reports/sentinels.json").read_bytes()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, r"gan\.json does not exist: run `dvc repro evaluate@gan`"),
        ("{", r"gan\.json is not what its stage writes \(.*\): run `dvc repro --force evaluate@gan`"),
        ("[]", r"not what its stage writes \(AttributeError"),
        ('{"val": {}}', r"not what its stage writes \(KeyError: 'alignment'"),
        ('{"memorisation": {"copy_rate": 3}}', r"not what its stage writes \(TypeError"),
        ("{}", r"not what its stage writes \(KeyError: 'test/likeness, cost'"),
    ],
)
def test_what_is_no_record_names_the_stage_that_writes_it(
    tmp_path: Path, content: str | None, reason: str
) -> None:
    file = tmp_path / "gan.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(SalonError, match=reason):
        Judgement.load(file, needs=("test/likeness", "cost"))


def test_without_takes_out_what_misplaces_a_sentinel_and_nothing_else() -> None:
    judgement = Judgement.load(REPOSITORY / "reports/metrics/gan.json")
    less = judgement.without(["test/density", "test/nothing"])
    assert judgement.estimates().keys() - less.estimates().keys() == {("test", "density")}
    assert less.cost == judgement.cost


@pytest.mark.usefixtures("with_roughness")
def test_a_metric_of_ones_own_is_recorded_tabled_and_logged(workspace: Workspace) -> None:
    """It is in no file of the package, and one row of the table is all that knows it."""
    assert "roughness" not in judging_networks()
    assert "test/roughness" in [rule.metric for rule in sentinel_rules(attributes=False)]
    evaluate.run(workspace.params, workspace.paths, NAME)
    record = read_json(workspace.paths.metrics(NAME))
    assert record["test"]["roughness"]["n"] == workspace.params.evaluate.pictures
    assert "roughness" not in record["val"]
    registered = workspace.register()
    run = workspace.store.client.get_run(registered["run_id"])
    for end in ("", "_low", "_high"):
        logged = run.data.metrics[f"test/roughness{end}"]
        assert logged == record["test"]["roughness"][end.removeprefix("_") or "value"]
    version = workspace.store.client.get_model_version(registered["name"], registered["version"])
    assert f"- {ROUGHNESS.card}: " in version.description


@pytest.mark.usefixtures("with_roughness")
def test_a_metric_of_ones_own_has_a_column_and_an_explanation_on_the_page(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.8, diffusion=0.9512)
    with pytest.raises(SalonError, match="test/roughness"):  # judged before it was known
        compare.run(params, paths)
    for number, name in enumerate(["gan", "diffusion", *(f"sentinel-{name}" for name in SENTINELS)]):
        record = read_json(paths.metrics(name))
        record["test"]["roughness"] = estimate(3.17 + number / 2) | {"low": 0.0, "high": 20.0}  # as real, all
        write_json(paths.metrics(name), record)
    floors = read_json(paths.codec_floors)
    floors["vqvae"]["test"]["roughness"] = estimate(1.17)
    write_json(paths.codec_floors, floors)
    compare.run(params, paths)
    page = (paths.compare / "index.html").read_text(encoding="utf-8")
    assert '<th scope="col">roughness</th>' in page
    assert "Roughness: how much do neighbouring pixels differ?" in page
    assert all(f"<b>{3.17 + number / 2:.2f}</b>" in page for number in range(2 + len(SENTINELS)))


@pytest.mark.parametrize("name", ["density", "coverage", "recall"])  # precision is of arithmetic, too
def test_a_metric_is_named_by_its_row_and_its_function_alone(name: str) -> None:
    word = re.compile(rf"[\"'/.]{name}\b|\b{name}[:=]")
    named = {
        file.relative_to(SOURCES).as_posix()
        for file in [*SOURCES.rglob("*.py"), *SOURCES.rglob("compare*.html")]
        if word.search(file.read_text(encoding="utf-8"))
    }
    assert named == {"judging/metrics.py", "judging/fidelity.py"}

"""A wrong params.yaml is answered with the key, the reason and the nearest right key."""

import re
from pathlib import Path

import pytest
import yaml

from salon.errors import SalonError
from salon.params import EvaluateParams, load_params
from salon.params.profiles import lay_over
from salon.params.sources import SOURCES, is_world
from salon.paths import Paths

REPOSITORY = Path(__file__).parents[2]


def load_changed(tmp_path: Path, change) -> None:
    raw = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    change(raw)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    load_params(path)


def test_default_file_is_valid():
    params = load_params(REPOSITORY / "params.yaml")
    assert params.validate_.languages == ["en", "ru"]
    assert set(params.ingest.settings.pictures) == {"train", "val", "test", "novel"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(sed=1), r"unknown key 'sed': did you mean 'seed'\?"),
        (
            lambda raw: raw["validate"].update(min_row=1),
            r"unknown key 'validate\.min_row': did you mean 'min_rows'\?",
        ),
        (
            lambda raw: raw["ingest"]["emoji"].update(concept=[]),
            r"unknown key 'ingest\.emoji\.concept': did you mean 'concepts'\?",
        ),
        (lambda raw: raw["validate"].update(zzzzzz=1), r"known keys are .*min_rows"),
        (lambda raw: raw.pop("seed"), r"seed: Field required"),
        (lambda raw: raw["validate"].update(min_rows=0), r"validate\.min_rows: .*or equal to 1"),
        (
            lambda raw: raw["ingest"]["emoji"].update(image_size=33),
            r"emoji\.image_size: .*multiple of 8",
        ),
        (lambda raw: raw["ingest"]["emoji"].update(languages=["xx"]), r"ingest\.emoji\.languages\.0"),
        (lambda raw: raw["ingest"]["emoji"]["pictures"].pop("val"), r"ingest\.emoji\.pictures.*val"),
        (
            lambda raw: raw["ingest"]["emoji"]["concepts"].append("owl"),
            r"emoji\.concepts.*'owl' twice",
        ),
        (lambda raw: raw["validate"].update(caption_length=[9, 3]), r"validate\.caption_length.*9.*3"),
        (
            lambda raw: raw["ingest"].update(imagefolder={"image_siz": 32}),
            r"unknown key 'ingest\.imagefolder\.image_siz': did you mean 'image_size'\?",
        ),
        (
            lambda raw: raw["ingest"].update(coco={"columns": {"captoin": "text"}}),
            r"unknown key 'ingest\.coco\.columns\.captoin': did you mean 'caption'\?",
        ),
        (
            lambda raw: raw["ingest"].update(parquet={"splits": {"val": 0.6, "test": 0.4}}),
            r"ingest\.parquet\.splits.*leave nothing for training",
        ),
        (lambda raw: raw["ingest"].update(source="folder"), r"ingest\.source: .*'imagefolder'"),
        (lambda raw: raw["ingest"].pop("emoji"), r"ingest: .*source emoji needs a section"),
        (lambda raw: raw["methods"].update({"Bad Name": {}}), r"method name 'Bad Name'"),
        (
            lambda raw: raw["register"].update(min_probability_better=0.95),
            r"register: .*min_probability_better decides nothing any more: alpha, alignment_margin",
        ),
        (lambda raw: raw["register"].update(alpha=0.0), r"register\.alpha"),
        (lambda raw: raw["register"].pop("prompts"), r"register\.prompts: Field required"),
    ],
)
def test_wrong_value_is_named(tmp_path, change, message):
    with pytest.raises(SalonError) as caught:
        load_changed(tmp_path, change)
    assert re.search(message, str(caught.value))
    assert "params.yaml" in str(caught.value)


def test_every_problem_is_told_at_once(tmp_path):
    def break_two(raw):
        raw["sed"] = 1
        raw["validate"]["min_rows"] = 0

    with pytest.raises(SalonError, match=r"min_rows.*'sed'|'sed'.*min_rows"):
        load_changed(tmp_path, break_two)


@pytest.mark.parametrize("text", ["seed: [1", "a: b: c", "\tseed: 1"])
def test_bad_yaml_is_said_to_be_bad_yaml(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SalonError, match="is not valid YAML"):
        load_params(path)


@pytest.mark.parametrize("content", [b"", b"- 1\n- 2\n", b"\xff\xfe\x00"])
def test_file_that_holds_no_mapping_is_refused(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(SalonError, match=r"expected a mapping|is not"):
        load_params(path)


def test_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(SalonError, match="does not exist: run salon in the folder that holds params"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("source", [source for source in SOURCES if not is_world(source)])
def test_only_the_chosen_source_needs_a_section(tmp_path, source):
    load_changed(tmp_path, lambda raw: raw.update(ingest={"source": source, "path": "data/raw/mine"}))


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> str:
    """The default settings, of which one key had another name in the release before."""
    monkeypatch.setattr(EvaluateParams, "renamed", {"calls": "latency_repeats"})
    return (REPOSITORY / "params.yaml").read_text(encoding="utf-8")


def test_keys_of_the_last_release_are_read_and_the_new_names_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], renamed: str
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(renamed.replace("latency_repeats:", "calls:"), encoding="utf-8")
    assert load_params(path) == load_params(REPOSITORY / "params.yaml")
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"salon: {path}: evaluate.calls is called evaluate.latency_repeats now")

    twice = renamed.replace("  latency_repeats:", "  calls: 3\n  latency_repeats:")
    path.write_text(twice, encoding="utf-8")
    with pytest.raises(
        SalonError, match=r"evaluate\.calls is called evaluate\.latency_repeats now: give one"
    ):
        load_params(path)


def test_keys_that_mean_nothing_any_more_are_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    default = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")
    path = tmp_path / "params.yaml"
    gone = "evaluate:\n  tradeoff: {candidates: [1]}\n  tradeoff_pictures: 9\n"
    path.write_text(default.replace("evaluate:\n", gone), encoding="utf-8")
    assert load_params(path) == load_params(REPOSITORY / "params.yaml")
    assert capsys.readouterr().err.splitlines() == [
        f"salon: {path}: evaluate.{key} means nothing any more: select says what is tried"
        for key in ("tradeoff", "tradeoff_pictures")
    ]


def test_a_profile_is_laid_over_keys_of_the_last_release(tmp_path: Path, renamed: str) -> None:
    paths = Paths(tmp_path)
    paths.params.write_text(renamed.replace("latency_repeats:", "calls:"), encoding="utf-8")
    paths.profiles.mkdir()
    smoke = (REPOSITORY / "profiles" / "smoke.yaml").read_text(encoding="utf-8")
    old = smoke.replace("  latency_repeats:", "  tradeoff_pictures: 40\n  calls:")
    (paths.profiles / "new.yaml").write_text(smoke, encoding="utf-8")
    (paths.profiles / "old.yaml").write_text(old, encoding="utf-8")
    for name in ("new", "old"):
        text, params = lay_over(paths, name)
        assert "calls" not in text
        assert "tradeoff" not in text
        assert params.evaluate.latency_repeats == 5
        assert "# One section per stage." in text

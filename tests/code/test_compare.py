"""The comparison page: every figure is in the files, and nothing on it comes from elsewhere."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from salon.errors import SalonError
from salon.jsonfile import read_json, write_json
from salon.params import Params, load_params
from salon.paths import Paths
from salon.report.compare import render_comparison
from salon.report.figures import SHEET_COLUMNS, SHEET_GAP, read_evidence
from salon.report.wording import enumerate_words, paired_lead, percent, split_title
from salon.stages import compare as stage

REPOSITORY = Path(__file__).parents[2]
ATTRIBUTES = ("concept", "style", "background")
TILE = 96
HOSTILE = """<script src="http://evil.example/x.js"></script>'"><img src=x onerror=alert(1)>"""


class Page(HTMLParser):
    """Text, tags and everything that a browser would fetch or run."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.labels: list[str] = []
        self.handlers: list[str] = []
        self._in_style = False
        self.feed(html)

    @property
    def text(self) -> str:
        return re.sub(r"[ \n]+", " ", " ".join(self.words))  # keeps spaces that do not break

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._in_style = tag == "style"
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data"):
                self.links.append(value or "")
            if name == "aria-label":
                self.labels.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_data(self, data: str) -> None:
        if not self._in_style:
            self.words.append(data)


def estimate(value: float, *, n: int = 200) -> dict[str, float]:
    return {"value": value, "low": round(value - 0.0213, 4), "high": round(min(1, value + 0.0187), 4), "n": n}


def figures(all_right: float) -> dict[str, Any]:
    alignment = {
        "concept": estimate(min(1, all_right + 0.0131)),
        "style": estimate(min(1, all_right + 0.0057)),
        "background": estimate(min(1, all_right + 0.0222)),
        "all": estimate(all_right),
    }
    return {
        "alignment": alignment,
        "alignment_en": {name: {**value, "n": 90} for name, value in alignment.items()},
        "alignment_ru": {name: {**value, "n": 110} for name, value in alignment.items()},
    }


def samples(count: int = 30) -> list[dict[str, Any]]:
    rows = []
    for i in range(count):
        wanted = {"concept": ("owl", "crown")[i % 2], "style": "noto", "background": "blue"}
        seen = {**wanted, "concept": "penguin" if i % 6 == 0 else wanted["concept"]}
        right = {name: seen[name] == value for name, value in wanted.items()}
        rows.append(
            {
                "id": f"{i:016x}",
                "caption": f"caption {i}",
                "lang": ("en", "ru")[i % 2],
                "wanted": wanted,
                "seen": seen,
                "right": right,
                "all": all(right.values()),
            }
        )
    return rows


def draw_sheet(path: Path, count: int) -> None:
    rows = -(-count // SHEET_COLUMNS)
    size = (SHEET_COLUMNS * (TILE + SHEET_GAP) - SHEET_GAP, rows * (TILE + SHEET_GAP) - SHEET_GAP)
    Image.new("RGB", size, (90, 140, 200)).save(path)


def write_method(paths: Paths, name: str, *, all_right: float, flops: float) -> None:
    metrics = {
        "val": figures(all_right),
        "test": figures(all_right),
        "novel": {
            "concept_x_background": figures(all_right - 0.0101),
            "concept_x_style": figures(0.1834),
        },
        "cost": {
            "train_flops": flops,
            "train_minutes": 5.437,
            "parameters": 1234567,
            "images_seen": 98765,
            "peak_memory_gb": 1.234,
            "latency_ms_p50": 31.41,
            "latency_ms_p95": 44.02,
            "images_per_second_b16": 77.7,
        },
    }
    write_json(paths.metrics(name), metrics)
    write_json(
        paths.dial(name),
        [
            {
                "dial": "num_inference_steps",
                "setting": steps,
                "latency_ms_p50": 4.5 * steps,
                **estimate(value),
            }
            for steps, value in ((2, 0.7123), (4, 0.9456), (8, 0.9512))
        ],
    )
    own = {
        "steps": 4321,
        "train_flops": flops - 5.4e12,
        "train_minutes": 4.222,
        "images_seen": 98765,
        "parameters": 1234567,
        "peak_memory_gb": 1.234,
        "precision": "32-true",
        "device": "cpu",
    }
    shared = {"clip": {"train_flops": 5.4e12, "train_minutes": 1.215}}
    write_json(paths.method(name) / "training.json", {"own": own, "shared": shared})
    folder = paths.samples(name)
    for split in ("val", "test", "novel-concept_x_background", "novel-concept_x_style"):
        write_json(folder / f"{split}.json", samples())
        draw_sheet(folder / f"{split}.png", 30)


def write_shared(paths: Paths) -> None:
    right = {"concept": 0.9991, "style": 0.9983, "background": 1.0, "all": 0.9974}
    write_json(
        paths.scorer_metrics,
        {
            "held_out_accuracy": {"test": right, "novel": right},
            "held_out_pictures": {"test": 1000, "novel": 618},
        },
    )
    write_json(
        paths.clip_metrics,
        {
            "cost": {
                "train_flops": 5.4e12,
                "train_minutes": 1.215,
                "images_seen": 28800,
                "parameters": 1198785,
            },
            "probe": {"concept": 0.9944, "style": 0.9877, "background": 1.0},
            "probe_trials": 1800,
            "truncated_captions": 0,
        },
    )
    counts = {"train": 24000, "val": 600, "test": 1000, "novel": 1200}
    write_json(paths.ingest_report, {"ingested": 26800, "splits": counts})


def make_workspace(root: Path, **all_right: float) -> tuple[Params, Paths]:
    """A workspace whose stages have run, with the given methods."""
    paths = Paths(root)
    default = load_params(REPOSITORY / "params.yaml")
    params = default.model_copy(update={"methods": {name: {} for name in all_right}})
    write_shared(paths)
    for number, (name, value) in enumerate(all_right.items()):
        write_method(paths, name, all_right=value, flops=3.3e13 * (1 + 0.01 * number))
    return params, paths


def render(params: Params, paths: Paths) -> Page:
    stage.run(params, paths)
    return Page((paths.compare / "index.html").read_text(encoding="utf-8"))


def test_every_figure_of_the_files_is_on_the_page(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, diffusion=0.9512)
    text = render(params, paths).text
    metrics = read_json(paths.metrics("diffusion"))
    splits = [metrics["test"], *metrics["novel"].values()]
    for split in splits:
        for value in split["alignment"].values():
            assert percent(value["value"]) in text
            assert f"{100 * value['low']:.1f}–{100 * value['high']:.1f}" in text
    for row in read_json(paths.dial("diffusion")):
        assert f"{row['setting']} steps {percent(row['value'])}" in text
        assert f" {row['latency_ms_p50']} " in text
    for shown in (
        "5.437",
        "1,234,567",
        "98,765",
        "31.41",
        "44.02",
        "77.7",
        "33,000",
        "27,600",
        "4,321",
        "1.234",
    ):
        assert f" {shown} " in text
    for value in read_json(paths.scorer_metrics)["held_out_accuracy"]["test"].values():
        assert percent(value) in text
    assert "24,000 train, 600 val, 1,000 test, 1,200 novel" in text
    assert "1800 trials: concept 99.4\xa0%" in text


def test_every_percentage_on_the_page_is_in_the_files(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, diffusion=0.9512)
    shown = set(re.findall(r"(\d+\.\d)\xa0%", render(params, paths).text))
    files = [*paths.metrics("x").parent.glob("*.json"), paths.dial("diffusion")]
    known = {
        f"{100 * float(number):.1f}" for file in files for number in re.findall(r"\d+\.\d+", file.read_text())
    }
    assert shown
    assert shown <= known


def test_validation_figures_are_not_reported_as_results(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, diffusion=0.9512)
    metrics = read_json(paths.metrics("diffusion"))
    metrics["val"] = figures(0.6543)
    write_json(paths.metrics("diffusion"), metrics)
    assert "65.4" not in render(params, paths).text


def test_confusions_are_counted_from_the_samples(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, diffusion=0.9512)
    text = render(params, paths).text
    assert "owl → penguin 5 of 15" in text  # samples 0, 6, ... 24 of the 15 owls
    assert "no confusion in 30 pictures" in text


def test_methods_are_ranked_by_test_and_the_lead_is_paired(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.8, diffusion=0.9512)
    rows = samples()
    for row in rows[::3]:
        row["all"] = False
    write_json(paths.samples("gan") / "test.json", rows)
    text = render(params, paths).text
    assert "the order on known combinations is diffusion (95.1\xa0%), gan (80.0\xa0%)." in text
    diffusion, gan = sorted(read_evidence(params, paths).methods, key=lambda method: method.name)
    lead = paired_lead(diffusion, gan, samples=500)
    assert lead is not None
    # of the ten rows made wrong for gan, five were wrong for both
    assert lead.value == pytest.approx(5 / 30)
    assert "diffusion leads gan by 16.7 points" in text


def test_equal_methods_are_too_close_to_call(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.95, diffusion=0.9512)
    assert "too close to call" in render(params, paths).text


def test_unequal_budgets_are_refused(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.9, diffusion=0.9512)
    metrics = read_json(paths.metrics("gan"))
    metrics["cost"]["train_flops"] *= 1.08
    write_json(paths.metrics("gan"), metrics)
    with pytest.raises(SalonError, match=r"gan was trained with .* diffusion with .*tolerance = 5%"):
        stage.run(params, paths)
    assert not paths.compare.exists()


@pytest.mark.parametrize(
    ("victim", "remedy"),
    [
        ("reports/metrics/diffusion.json", "dvc repro evaluate@diffusion"),
        ("reports/metrics/scorer.json", "dvc repro scorer"),
        ("reports/metrics/clip_tower.json", "dvc repro train_clip"),
        ("reports/dial/diffusion.json", "dvc repro evaluate@diffusion"),
        ("reports/samples/diffusion/test.png", "dvc repro evaluate@diffusion"),
        ("models/methods/diffusion/training.json", "dvc repro train@diffusion"),
    ],
)
def test_a_missing_file_is_named_with_what_to_do(tmp_path: Path, victim: str, remedy: str) -> None:
    params, paths = make_workspace(tmp_path, diffusion=0.9512)
    (tmp_path / victim).unlink()
    with pytest.raises(SalonError, match="does not exist") as refusal:
        stage.run(params, paths)
    assert victim in str(refusal.value)
    assert remedy in str(refusal.value)


@pytest.mark.parametrize(
    "content", ["{", '{"test": {}, "cost": {}}', "[]", '{"test": {"alignment": {"all": 3}}, "cost": {}}']
)
def test_a_broken_file_is_an_error_and_leaves_the_old_page(tmp_path: Path, content: str) -> None:
    params, paths = make_workspace(tmp_path, diffusion=0.9512)
    stage.run(params, paths)
    before = (paths.compare / "index.html").read_bytes()
    paths.metrics("diffusion").write_text(content)
    with pytest.raises(SalonError, match=r"diffusion\.json"):
        stage.run(params, paths)
    assert [file.name for file in paths.compare.iterdir()] == ["index.html"]
    assert (paths.compare / "index.html").read_bytes() == before


def test_hostile_captions_and_values_stay_text(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, diffusion=0.9512)
    rows = samples()
    rows[0]["caption"] = HOSTILE
    rows[1] |= {"seen": {**rows[1]["seen"], "style": HOSTILE}, "lang": '"><b>'}
    rows[1]["right"]["style"] = False
    write_json(paths.samples("diffusion") / "test.json", rows)
    page = render(params, paths)
    assert HOSTILE in page.text
    assert f"diffusion: {HOSTILE}" in page.labels
    assert not page.tags & {"script", "img", "iframe", "object", "link"}
    assert not page.handlers


def test_the_page_needs_no_network(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.9, diffusion=0.9512)
    page = render(params, paths)
    html = (paths.compare / "index.html").read_text(encoding="utf-8")
    assert all(link == "../data_docs/index.html" for link in page.links)
    assert all(target.startswith("data:") for target in re.findall(r"url\(([^)]*)\)", html))
    assert not re.search(r"https?://|@import", html)


def test_the_page_is_the_same_whenever_it_is_made(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.9, diffusion=0.9512)
    evidence = read_evidence(params, paths)
    assert render_comparison(evidence, params) == render_comparison(read_evidence(params, paths), params)


def test_sheets_are_cut_as_the_evaluate_stage_lays_them_out(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from salon.judging.alignment import Judged
    from salon.stages.evaluate import GRID_PICTURES, _save_samples

    count = GRID_PICTURES + 3
    judged = [
        Judged(id=str(i), caption="c", lang="en", wanted={"a": "x"}, seen={"a": "x"}) for i in range(count)
    ]
    _save_samples(tmp_path / "test", judged, torch.zeros(count, 3, 32, 32, dtype=torch.uint8))
    params, paths = make_workspace(tmp_path, diffusion=0.9512)
    for suffix in (".json", ".png"):
        (tmp_path / f"test{suffix}").replace(paths.samples("diffusion") / f"test{suffix}")
    (paths.samples("diffusion") / "test.json").write_text(json.dumps(samples(count)))
    sheet = read_evidence(params, paths).methods[0].splits["test"].sheet
    assert (sheet.tile, sheet.rows, sheet.capacity) == (96, GRID_PICTURES // SHEET_COLUMNS, GRID_PICTURES)


def test_words() -> None:
    assert enumerate_words(["a"]) == "a"
    assert enumerate_words(["a", "b", "c"]) == "a, b and c"
    assert split_title("novel/concept_x_style") == "Never seen together: concept and style"
    assert (
        split_title("novel/concept_x_background+concept_x_style")
        == "Never seen together: concept and background; concept and style"
    )

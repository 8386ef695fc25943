"""The comparison page: every figure is in the files, and nothing on it comes from elsewhere."""

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from comparison_workspace import (
    GFLOP,
    PICTURES,
    figures,
    forget_attributes,
    make_workspace,
    real_colour,
    samples,
    write_worst,
)
from salon.errors import SalonError
from salon.files import read_json, write_json
from salon.judging.metrics import of_images
from salon.judging.sentinel_rules import SENTINELS
from salon.params import Params
from salon.paths import Paths
from salon.report.compare import rank, render_comparison
from salon.report.figures import SHEET_COLUMNS
from salon.report.load import load_report_data
from salon.report.plot import (
    linear_ticks,
    log_ticks,
    plot_guidance,
    plot_rates,
    plot_tradeoff,
    plot_training,
    plot_variety,
)
from salon.report.seed_study import Made
from salon.report.side_by_side import show_worst, side_by_side
from salon.report.wording import decimal, percent
from salon.stages import compare as stage
from studies import make_study

HOSTILE = """<script src="http://evil.example/x.js></script>'"><img src=x onerror=alert(1)>"""


class Page(HTMLParser):
    """Text, tags and everything that a browser would fetch or run."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.labels: list[str] = []
        self.handlers: list[str] = []
        self._silent = False
        self.feed(html)

    @property
    def text(self) -> str:
        return re.sub(r"[ \n]+", " ", " ".join(self.words))  # keeps spaces that do not break

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._silent = tag in ("style", "text")  # the marks of a plot's axes are no figures
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data"):
                self.links.append(value or "")
            if name == "aria-label":
                self.labels.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_endtag(self, tag: str) -> None:
        self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.words.append(data)


def render(params: Params, paths: Paths) -> Page:
    stage.run(params, paths)
    return Page((paths.compare / "index.html").read_text(encoding="utf-8"))


def test_every_figure_of_the_files_is_on_the_page(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, diffusion=0.9512)
    text = render(params, paths).text
    metrics = read_json(paths.metrics("diffusion"))
    for source in (metrics, *(read_json(paths.metrics(f"sentinel-{name}")) for name in SENTINELS)):
        for split in (source["test"], *source["novel"].values()):
            for value in split["alignment"].values():
                assert percent(value["value"]) in text
                assert f"{100 * value['low']:.1f}–{100 * value['high']:.1f}" in text
            assert percent(split["r_precision"]["value"]) in text
        assert percent(source["memorisation"]["copy_rate"]["value"]) in text
        for metric in of_images():
            value = source["test"][metric.name]["value"]
            assert metric.share == (metric.name != "density")
            assert (percent(value) if metric.share else decimal(value)) in text
    for name in ("power", "detectable_rate"):
        assert percent(metrics["memorisation"][name]) in text
    assert percent(metrics["memorisation"]["nearer"]["value"]) in text
    selection = read_json(paths.selection("diffusion"))
    for trial in selection["trials"]:
        guidance, steps = trial["settings"].values()
        assert f"guidance {guidance:g}, {steps} steps" in text
        for figure in (trial["likeness"], trial["diversity"], trial["alignment"]):
            ends = f"{100 * figure['low']:.1f}–{100 * figure['high']:.1f}"
            assert f"{percent(figure['value'])} {ends}" in text
        assert f" {decimal(trial['picture_flops'] / 1e9)} {trial['draw_ms_p50']} {trial['verdict']} " in text
    assert f"diffusion (guidance 2.5, 5 steps): {selection['reason']}." in text
    assert "Measured on 2 CPU cores." in text
    for shown in (
        "5.437",
        "1,234,567",
        "98,765",
        "31.41",
        "44.02",
        "77.7",
        "33,000",
        "27,600",
        "5,400",
        "1.215",
        "4,321",
        "1.234",
        "2,112",
        "0.161",
        "432",
    ):
        assert f" {shown} " in text
    for value in read_json(paths.scorer_metrics)["held_out_accuracy"]["test"].values():
        assert percent(value) in text
    assert (
        f"{percent(0.9765)} of the real pictures of novel, {percent(0.9876)} of the real pictures of test."
        in text
    )
    codec = read_json(paths.codec_metrics("vqvae"))["test"]
    assert "PSNR 22.5 dB at 0.562 bits a pixel; 498 codes in use, perplexity 374, on 1000 pictures" in text
    assert all(percent(codec["accuracy"][name]) in text for name in ("concept", "style", "background"))
    assert "24,000 train, 600 val, 1,000 test, 1,200 novel" in text
    assert "1800 trials: concept 99.4\xa0%" in text
    assert "on val concept 97.1\xa0%; on novel concept 94.3\xa0%" in text
    assert all(rule in text for rule in read_json(paths.sentinels)["rules"])


def test_every_number_on_the_page_is_in_the_files(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, diffusion=0.9512)
    text = render(params, paths).text.replace(",", "").replace("\N{MINUS SIGN}", "-")
    shown = set(re.findall(r"-?\d+\.\d+", text))
    known: set[str] = set()
    for file in [*tmp_path.glob("reports/**/*.json"), *tmp_path.glob("models/**/*.json")]:
        for number in re.findall(r"-?\d+\.?\d*", file.read_text()):
            value = float(number)
            known |= {number, f"{100 * value:.1f}", decimal(value).replace("\N{MINUS SIGN}", "-")}
            known |= {f"{value:.1f}", decimal(value / GFLOP), f"{value / 1e6:.1f}"}
    assert len(shown) > 100
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


def test_the_worst_pictures_come_first(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, diffusion=0.9512)
    worst = show_worst(load_report_data(params, paths).methods[0])
    assert [card.caption for card in worst] == ["caption 7", "caption 8", "caption 0"]
    assert worst[0].tiles[0].wrong == {"concept": "rocket", "style": "twemoji", "background": "pink"}
    assert [tile.x_percent for card in worst for tile in card.tiles] == pytest.approx([0, 14.286, 28.571])
    assert "Nothing is wrong" not in render(params, paths).text

    write_worst(paths, "diffusion", [])
    (paths.samples("diffusion") / "worst.png").unlink()
    assert "Nothing is wrong in any judged picture." in render(params, paths).text


def test_the_worst_of_all_judged_pictures_are_kept(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from salon.evaluation.sheets import SHEET_IMAGES, WORST_IMAGES, save_worst
    from salon.judging.alignment import Judged

    def judge(place: int, split: str, *, wrong: int) -> Judged:
        wanted = {"concept": "owl", "style": "noto", "background": "blue"}
        seen = {name: "-" if number < wrong else value for number, (name, value) in enumerate(wanted.items())}
        return Judged(id=f"{split}{place}", caption="c", lang="en", wanted=wanted, seen=seen)

    far = SHEET_IMAGES + 11  # beyond the sheet
    seen = {
        "test": ([judge(i, "test", wrong=2 * (i == far)) for i in range(100)], torch.zeros(100, 3, 32, 32)),
        "novel/a": (
            [judge(i, "novel", wrong=3 * (i == 99) + (i < 9)) for i in range(100)],
            torch.ones(100, 3, 32, 32),
        ),
    }
    save_worst(
        tmp_path / "worst", {split: (judged, images.byte()) for split, (judged, images) in seen.items()}
    )
    rows = read_json(tmp_path / "worst.json")
    assert [row["id"] for row in rows[:3]] == ["novel99", f"test{far}", "novel0"]
    assert [row["split"] for row in rows[:2]] == ["novel/a", "test"]
    assert len(rows) == WORST_IMAGES
    assert Image.open(tmp_path / "worst.png").width == SHEET_COLUMNS * (96 + 2) - 2

    save_worst(tmp_path / "none", {"test": (seen["test"][0][:5], torch.zeros(5, 3, 32, 32).byte())})
    assert read_json(tmp_path / "none.json") == []
    assert not (tmp_path / "none.png").exists()


def test_phrasings_are_tabled_where_the_source_tells_them(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.9, diffusion=0.9512)
    text = render(params, paths).text
    assert "{a_concept} in {style} style on a {background} background 50" in text
    assert text.count(percent(0.9512 - 0.0666)) == 1
    for name in ("gan", "diffusion", *(f"sentinel-{name}" for name in SENTINELS)):
        metrics = read_json(paths.metrics(name))
        for split in (metrics["test"], *metrics["novel"].values()):
            del split["phrasing"]
        write_json(paths.metrics(name), metrics)
    assert "Does it matter how one asks?" not in render(params, paths).text


def test_without_attributes_nothing_is_said_of_them(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.8, diffusion=0.9512)
    forget_attributes(paths, "gan", "diffusion")
    text = render(params, paths).text
    for absent in ("ombinations", "classifier", "1800 trials", "confuses"):
        assert absent not in text
    for present in ("Captions held out of training", "(R-precision)", "another caption", "95.1"):
        assert present in text


def test_a_withheld_metric_is_shown_of_sentinels_alone_and_says_why(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.8, diffusion=0.9512)
    forget_attributes(paths, "gan", "diffusion")
    for number, name in enumerate(("gan", "diffusion")):
        metrics = read_json(paths.metrics(name))
        metrics["test"]["density"]["value"] = 1.771 + number / 1000
        write_json(paths.metrics(name), metrics)
    reason = "test/density: real 1.097 must be above noise 3.006"
    gate = read_json(paths.sentinels)
    write_json(paths.sentinels, gate | {"withheld": {"test/density": reason}})
    page = render(params, paths)
    assert page.text.count("withheld") >= 2 + 2
    assert "1.77" not in page.text
    assert page.text.count(reason) == 2
    assert "density misplaced one and is withheld; the other 2 rules" in " ".join(page.text.split())


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
        ("reports/metrics/sentinel-noise.json", "dvc repro sentinels"),
        ("reports/sentinels.json", "dvc repro sentinels"),
        ("reports/metrics/codec-vqvae.json", "dvc repro codec@vqvae"),
        ("reports/codecs/vqvae/rate_distortion.json", "dvc repro codec@vqvae"),
        ("reports/codecs/vqvae/reconstructions.png", "dvc repro codec@vqvae"),
        ("reports/metrics/scorer.json", "dvc repro scorer"),
        ("reports/metrics/clip_tower.json", "dvc repro train_clip"),
        ("reports/selection/diffusion.json", "dvc repro select@diffusion"),
        ("reports/samples/diffusion/worst.json", "dvc repro evaluate@diffusion"),
        ("reports/samples/diffusion/test.png", "dvc repro evaluate@diffusion"),
        ("reports/samples/diffusion/memorisation.png", "dvc repro evaluate@diffusion"),
        ("models/selected/diffusion/training.json", "dvc repro select@diffusion"),
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
    "content",
    [
        "{",
        '{"test": {}, "cost": {}}',
        "[]",
        '{"test": {"alignment": {"all": 3}}, "memorisation": {}, "cost": {}}',
    ],
)
def test_a_broken_file_is_an_error_and_leaves_the_old_page(tmp_path: Path, content: str) -> None:
    params, paths = make_workspace(tmp_path, diffusion=0.9512)
    stage.run(params, paths)
    before = (paths.compare / "index.html").read_bytes()
    paths.metrics("diffusion").write_text(content)
    with pytest.raises(SalonError, match=r"diffusion\.json .*: run `dvc repro --force evaluate@diffusion`"):
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
    ledger = read_json(paths.selected("diffusion") / "training.json")
    ledger["own"]["warnings"] = [HOSTILE]
    write_json(paths.selected("diffusion") / "training.json", ledger)
    page = render(params, paths)
    assert HOSTILE in page.text
    assert f"diffusion: {HOSTILE}" in page.labels
    assert f"diffusion in training: {HOSTILE}" in page.text
    assert not page.tags & {"script", "img", "iframe", "object", "link"}
    assert not page.handlers


def test_the_page_needs_no_network(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.9, diffusion=0.9512)
    page = render(params, paths)
    html = (paths.compare / "index.html").read_text(encoding="utf-8")
    inside = {f"#{name}" for name in page.ids}
    assert {link for link in page.links if link not in inside} == {"../data_docs/index.html"}
    assert all(target.startswith("data:") for target in re.findall(r"url\(([^)]*)\)", html))
    assert not re.search(r"https?://|@import", html)


def test_the_page_is_the_same_whenever_it_is_made(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.9, diffusion=0.9512)
    data = load_report_data(params, paths)
    assert render_comparison(data, params) == render_comparison(load_report_data(params, paths), params)


def test_the_wall_ends_in_the_real_pictures_of_the_prompts(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.8, vqvae=0.7, clip=0.6, diffusion=0.9512, dalle=0.75)
    data = load_report_data(params, paths)
    ranked = rank(data.methods)
    assert [method.name for method in ranked] == ["diffusion", "gan", "dalle", "vqvae", "clip"]
    for split in ("test", "novel/concept_x_style"):
        cards = side_by_side(split, data, ranked)
        assert len(cards) == PICTURES
        assert [tile.method for tile in cards[0].tiles] == [*(method.name for method in ranked), "real"]
        sheet = data.real[split]
        assert (sheet.tile, sheet.rows) == (32, 4)
        picture = Image.open(io.BytesIO(base64.b64decode(sheet.base64_png)))
        for place in (0, 11, PICTURES - 1):
            tile = cards[place].tiles[-1]
            # where CSS puts the window: per cent of what the sheet is larger than one picture
            left = tile.x_percent / 100 * (sheet.width - sheet.tile)
            top = tile.y_percent / 100 * (sheet.height - sheet.tile)
            assert picture.getpixel((round(left) + 16, round(top) + 16)) == real_colour(place)


def test_prompts_that_are_no_longer_in_the_data_are_an_error(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, diffusion=0.9512)
    rows = samples()
    rows[3]["id"] = "gone"
    write_json(paths.samples("diffusion") / "test.json", rows)
    with pytest.raises(SalonError, match="holds no row gone of test"):
        stage.run(params, paths)


def test_other_trainings_are_shown_when_somebody_made_them(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.8, diffusion=0.9512)
    assert "Each method was trained once" in render(params, paths).text
    trainings = {"diffusion": [(0.92, 0.2), (0.93, 0.21)], "gan": [(0.71, 0.4)]}
    make_study(params, trainings, diverged={"gan": [2]}).save(paths.seeds)
    text = render(params, paths).text
    assert "the seeds 1 and 2, towers and codecs anew each time" in text
    assert "These are trainings of the methods above." in text
    assert "92.0\xa0%, 93.0\xa0% 71.0\xa0%" in text
    assert "minutes 1.5, 1.5 1.5 diverged 0 of 2 1 of 2" in text
    trainings = {"diffusion": [(0.92, 0.2), (0.93, 0.21), (0.91, 0.2)], "gan": [(0.71, 0.4)] * 3}
    made = replace(Made.of(params), settings="0" * 16)
    make_study(params, trainings, made=made).save(paths.seeds)
    text = render(params, paths).text
    assert "nothing is ranked that lies closer" in text
    assert "All right, test: diffusion is right more often than gan by 21.0 points (" in text
    assert "two networks agree: diffusion is nearer to real pictures than gan." in text
    make_study(params, trainings, made=replace(made, conditions="0" * 16)).save(paths.seeds)
    assert "these figures say nothing of those" in render(params, paths).text


def test_plots_hold_what_was_measured(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.9, diffusion=0.9512)
    ranked = rank(load_report_data(params, paths).methods)
    tradeoff, training = plot_tradeoff(ranked), plot_training(ranked)
    assert tradeoff is not None
    assert training is not None
    assert plot_training(ranked[:1]) is None
    guidance, variety = plot_guidance(ranked), plot_variety(ranked)
    assert guidance is not None
    assert variety is not None
    for plot in (tradeoff, guidance, variety):
        shown = [(line.name, len(line.points), line.large, line.joined) for line in plot.lines]
        assert shown == [("diffusion", 3, 1, False), ("gan", 3, 1, False)]
    trials = [replace(trial, settings={}, diversity=None) for trial in ranked[0].selection.trials]
    bare = replace(ranked[0], selection=replace(ranked[0].selection, trials=trials))
    assert plot_guidance([bare]) is None
    assert plot_variety([bare]) is None
    assert plot_guidance([bare, ranked[1]]).lines[0].hue == 1  # a method's colour in every plot
    first = tradeoff.lines[0].points
    assert first[1].x < first[0].x < first[2].x
    assert all(point.y_low > point.y > point.y_high for point in first)  # y grows downwards
    better, worse = (line.points[0].y for line in training.lines)
    assert better < worse
    # the same JPEG files were measured for each codec: they are drawn once
    codec = load_report_data(params, paths).codecs[0]
    rates = plot_rates([codec, codec])
    assert rates is not None
    assert [(line.name, line.dashed) for line in rates.lines] == [
        ("vqvae", False),
        ("jpeg", True),
        ("jpeg sheet", False),
    ]
    assert rates.lines[1].hue == rates.lines[2].hue != rates.lines[0].hue
    assert plot_rates([]) is None


def test_axes_reach_around_the_data() -> None:
    assert log_ticks(3, 40) == [2, 5, 10, 20, 50]
    assert log_ticks(0.07, 0.07) == [0.05, 0.1]
    assert linear_ticks(7.1, 8.3) == [7, 7.5, 8, 8.5]
    assert linear_ticks(52, 100) == [50, 60, 70, 80, 90, 100]
    assert len(linear_ticks(5, 5)) == 2


def test_sheets_are_cut_as_the_evaluate_stage_lays_them_out(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from salon.evaluation.sheets import SHEET_IMAGES, save_samples
    from salon.judging.alignment import Judged

    count = SHEET_IMAGES + 3
    judged = [
        Judged(id=str(i), caption="c", lang="en", wanted={"a": "x"}, seen={"a": "x"}) for i in range(count)
    ]
    save_samples(tmp_path / "test", judged, torch.zeros(count, 3, 32, 32, dtype=torch.uint8))
    params, paths = make_workspace(tmp_path, diffusion=0.9512)
    for suffix in (".json", ".png"):
        (tmp_path / f"test{suffix}").replace(paths.samples("diffusion") / f"test{suffix}")
    (paths.samples("diffusion") / "test.json").write_text(json.dumps(samples(count)))
    sheet = load_report_data(params, paths).methods[0].samples["test"].sheet
    assert (sheet.tile, sheet.rows) == (96, SHEET_IMAGES // SHEET_COLUMNS)


def test_the_ledger_names_every_shared_stage(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.9, dalle=0.8)
    ledger = read_json(paths.selected("dalle") / "training.json")
    ledger["shared"]["codec-vqgan"] = {"train_flops": 1_111 * GFLOP, "train_minutes": 0.777}
    write_json(paths.selected("dalle") / "training.json", ledger)
    text = render(params, paths).text
    assert "shared: codec-vqgan – 1,111" in text
    assert "shared: codec-vqgan – 0.777" in text

"""The comparison of all methods as one page that reads without a network."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from salon.data.ingest.worlds.phrasings import wording_of
from salon.files import write_text
from salon.judging.alignment import ALL
from salon.judging.metrics import Metric, of_images
from salon.judging.sentinel_rules import SENTINELS
from salon.params import Params
from salon.report import wording
from salon.report.figures import MethodFigures, ReportData
from salon.report.plot import plot_guidance, plot_rates, plot_tradeoff, plot_training, plot_variety
from salon.report.recommend import check_budgets, check_prompts
from salon.report.replicates_page import headline_rows, told_apart
from salon.report.side_by_side import collect_sheets, show_worst, side_by_side
from salon.report.summary import summarize
from salon.templates import page_environment

OPEN_PROMPTS = 8  # prompts shown at once; the others unfold
FILTERS = ("percent", "interval", "decimal", "span", "language", "novel_pair")
MISTAKES = 5  # confusions listed per attribute


def write_comparison(folder: Path, data: ReportData, params: Params) -> Path:
    """Write `index.html` into `folder`, whole or not at all.

    Raises:
        SalonError: the methods spent unequal budgets, or were judged on different prompts.
    """
    page = folder / "index.html"
    write_text(page, render_comparison(data, params))
    return page


def render_comparison(data: ReportData, params: Params) -> str:
    """The page as HTML. Captions and attribute values are the users' text: everything is escaped."""
    check_budgets({method.name: method.cost for method in data.methods}, tolerance=params.budget.tolerance)
    for split in data.splits:
        check_prompts({method.name: method.samples[split].ids for method in data.methods}, split=split)
    ranked = rank(data.methods)
    shown = [metric for metric in of_images() if metric.name in ranked[0].test.metrics]
    samples = params.evaluate.bootstrap_samples
    environment = page_environment("salon.report")
    environment.filters |= {
        **{name: getattr(wording, name) for name in FILTERS},
        "range": lambda estimate: f"{100 * estimate.low:.1f}–{100 * estimate.high:.1f}",
        "split_title": partial(wording.split_title, captions_alone=data.captions_alone),
        "split_note": partial(wording.split_note, captions_alone=data.captions_alone),
        "listed": wording.enumerate_words,
        "gflop": lambda flops: f"{flops / 1e9:,.0f}",
        "mflop": lambda flops: f"{flops / 1e6:,.1f}",
        "count": lambda number: f"{number:,}",
        "number": lambda number: f"{number:g}",
        "settings": wording.describe_settings,
        "wording": lambda phrasing: wording_of(phrasing) or phrasing,
    }
    return environment.get_template("compare.html").render(
        ALL=ALL,
        SENTINELS=SENTINELS,
        data=data,
        explained=_explain(shown),
        known=wording.prompts_of_test(captions_alone=data.captions_alone),
        machines=list(dict.fromkeys(wording.describe_machine(method.cost) for method in ranked)),
        methods=ranked,
        of_images=shown,
        most_mistakes=MISTAKES,
        paragraphs=summarize(data, bootstrap_samples=samples),
        params=params,
        pictures={
            **{f"pairs-{method.name}": method.closest_pairs for method in data.methods},
            **{f"codec-{codec.name}": codec.reconstructions for codec in data.codecs},
        },
        plot_tradeoff=plot_tradeoff(ranked),
        plot_guidance=plot_guidance(ranked),
        plot_rates=plot_rates(data.codecs),
        plot_training=plot_training(ranked),
        plot_variety=plot_variety(ranked),
        others=data.others,
        seed_rows=(rows := headline_rows(data.others.study) if data.others.study else []),
        seed_leads=told_apart(rows),
        shared_stages=list(dict.fromkeys(stage for m in ranked for stage in m.ledger["shared"])),
        sheets=collect_sheets(data, ranked),
        side_by_side={split: side_by_side(split, data, ranked) for split in data.splits},
        open_prompts=OPEN_PROMPTS,
        worst={method.name: show_worst(method) for method in ranked},
    )


def rank(methods: Sequence[MethodFigures]) -> list[MethodFigures]:
    """Best on `test` first; equals by name."""
    return sorted(methods, key=lambda method: (-method.test.all_right.value, method.name))


def _explain(metrics: Sequence[Metric]) -> list[tuple[str, Metric]]:
    """`Precision, density` and one of them, of those that mean the same."""
    alike: dict[str, list[Metric]] = {}
    for metric in metrics:
        alike.setdefault(metric.means, []).append(metric)
    titled = [(", ".join(metric.title for metric in same), same[0]) for same in alike.values()]
    return [(f"{titles[0].upper()}{titles[1:]}", metric) for titles, metric in titled]

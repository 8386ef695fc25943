"""The comparison of all methods as one page that reads without a network."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from salon.data.ingest.worlds.phrasings import wording_of
from salon.errors import SalonError
from salon.files import write_text
from salon.judging.alignment import ALL
from salon.judging.metrics import Metric, of_images
from salon.judging.sentinel_rules import SENTINELS
from salon.params import Params
from salon.report.figures import InlineImage, MethodFigures, ReportData
from salon.report.plot import plot_guidance, plot_rates, plot_tradeoff, plot_training
from salon.report.seeds import spread_over_seeds, told_apart
from salon.report.side_by_side import build_wall, collect_sheets, show_worst
from salon.report.summary import verdict
from salon.report.wording import (
    argument_title,
    cheapest_good_setting,
    decimal,
    describe_machine,
    enumerate_words,
    interval,
    language,
    novel_pair,
    percent,
    prompts_of_test,
    span,
    split_note,
    split_title,
)
from salon.templates import page_environment

WALL_OPEN = 8  # prompts shown at once; the others unfold
MISTAKES = 5  # confusions listed per attribute


def write_comparison(folder: Path, evidence: ReportData, params: Params) -> Path:
    """Write `index.html` into `folder`, whole or not at all.

    Raises:
        SalonError: the methods spent unequal budgets, or were judged on different prompts.
    """
    page = folder / "index.html"
    write_text(page, render_comparison(evidence, params))
    return page


def render_comparison(evidence: ReportData, params: Params) -> str:
    """The page as HTML. Captions and attribute values are the users' text: everything is escaped."""
    check_budgets(evidence.methods, tolerance=params.budget.tolerance)
    ranked = rank(evidence.methods)
    samples = params.evaluate.bootstrap_samples
    environment = page_environment("salon.report")
    environment.filters |= {
        "percent": percent,
        "interval": interval,
        "decimal": decimal,
        "span": span,
        "language": language,
        "range": lambda estimate: f"{100 * estimate.low:.1f}–{100 * estimate.high:.1f}",
        "split_title": partial(split_title, captions_alone=evidence.captions_alone),
        "split_note": partial(split_note, captions_alone=evidence.captions_alone),
        "novel_pair": novel_pair,
        "listed": enumerate_words,
        "gflop": lambda flops: f"{flops / 1e9:,.0f}",
        "count": lambda number: f"{number:,}",
        "number": lambda number: f"{number:g}",
        "wording": lambda phrasing: wording_of(phrasing) or phrasing,
    }
    return environment.get_template("compare.html").render(
        ALL=ALL,
        SENTINELS=SENTINELS,
        attributes=evidence.attributes,
        tradeoff_notes=[note for method in ranked if (note := cheapest_good_setting(method))],
        argument_title=argument_title,
        evidence=evidence,
        explained=_explain(of_images()),
        known=prompts_of_test(captions_alone=evidence.captions_alone),
        machines=list(dict.fromkeys(describe_machine(method.cost) for method in ranked)),
        methods=ranked,
        of_images=of_images(),
        most_mistakes=MISTAKES,
        paragraphs=verdict(evidence, bootstrap_samples=samples),
        params=params,
        pictures=_pictures(evidence),
        phrasings=list(ranked[0].test.phrasings),
        plot_tradeoff=plot_tradeoff(ranked),
        plot_guidance=plot_guidance(ranked),
        plot_rates=plot_rates(evidence.codecs),
        plot_training=plot_training(ranked),
        seed_spread=spread_over_seeds(evidence.seeds, bootstrap_samples=samples) if evidence.seeds else {},
        seed_verdict=told_apart(evidence.seeds, bootstrap_samples=samples) if evidence.seeds else [],
        shared_stages=list(dict.fromkeys(stage for m in ranked for stage in m.ledger["shared"])),
        sheets=collect_sheets(evidence, ranked),
        tags=list(ranked[0].test.languages),
        wall={split: build_wall(split, evidence, ranked) for split in evidence.splits},
        wall_open=WALL_OPEN,
        worst={method.name: show_worst(method) for method in ranked},
    )


def check_budgets(methods: Sequence[MethodFigures], *, tolerance: float) -> None:
    """Refuse to set side by side what did not cost the same.

    Raises:
        SalonError: the largest budget exceeds the smallest by more than `tolerance`.
    """
    spent = {method.name: float(method.cost.train_flops) for method in methods}
    least, most = min(spent, key=lambda name: spent[name]), max(spent, key=lambda name: spent[name])
    if spent[most] > spent[least] * (1 + tolerance):
        raise SalonError(
            f"{most} was trained with {spent[most]:.4g} FLOPs, {least} with {spent[least]:.4g}: more than "
            f"budget.tolerance = {tolerance:.0%} apart, so they cannot be ranked. Train both again under one "
            f"budget: dvc repro train@{most} train@{least}"
        )


def rank(methods: Sequence[MethodFigures]) -> list[MethodFigures]:
    """Best on `test` first; equals by name."""
    return sorted(methods, key=lambda method: (-method.test.all_right.value, method.name))


def _explain(metrics: Sequence[Metric]) -> list[tuple[str, Metric]]:
    """`Precision, density` and one of them, of those that mean the same."""
    alike: dict[str, list[Metric]] = {}
    for metric in metrics:
        alike.setdefault(metric.means, []).append(metric)
    titles = [", ".join(metric.title for metric in same) for same in alike.values()]
    return [(f"{t[0].upper()}{t[1:]}", same[0]) for t, same in zip(titles, alike.values(), strict=True)]


def _pictures(evidence: ReportData) -> dict[str, InlineImage]:
    """CSS class -> a picture shown whole."""
    pairs = {f"pairs-{method.name}": method.closest_pairs for method in evidence.methods}
    return pairs | {f"codec-{codec.name}": codec.reconstructions for codec in evidence.codecs}

"""Several full trainings in tables, and who is told apart from whom: in a terminal and in `docs/results/`."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from salon.judging.metrics import LIKENESS, METRICS, Metric
from salon.judging.replicates import FEWEST
from salon.judging.statistics import Estimate
from salon.report.other_trainings import RIGHT, Pairs, agreeing, compare_methods, means, with_figure
from salon.report.seed_study import SeedStudy
from salon.report.wording import describe_machine, enumerate_words, interval, novel_pair, percent, points

HEADLINES = (*LIKENESS, "diversity", "factor_diversity")


@dataclass(frozen=True)
class Row:
    """One headline figure over all trainings."""

    figure: str
    title: str
    values: dict[str, list[float]]
    """Method -> the figure of each training."""
    means: dict[str, Estimate]
    pairs: Pairs
    """Of the methods with enough trainings."""

    @property
    def apart(self) -> list[tuple[str, str]]:
        """Pairs told apart, the larger figure first."""
        return [
            pair for pair, found in self.pairs.items() if found.distinguishable and found.difference.value > 0
        ]

    @property
    def alike(self) -> list[tuple[str, str]]:
        """Pairs that nothing tells apart."""
        names = list(dict.fromkeys(name for pair in self.pairs for name in pair))
        return [pair for pair in combinations(names, 2) if not self.pairs[pair].distinguishable]


def headline_rows(study: SeedStudy) -> list[Row]:
    """All right on `test` and on each kind of `novel`, likeness by both networks, diversity."""
    known = {figure for name in study.methods for figure in study.figures(name)}
    novel = sorted(figure for figure in known if figure.startswith("novel/") and figure.endswith(RIGHT))
    titled = {f"test/{RIGHT}": "all right, test"}
    titled |= {f: f"all right, new {novel_pair(f.removesuffix(f'/{RIGHT}'))}" for f in novel}
    titled |= {f"test/{name}": _title(METRICS[name]) for name in HEADLINES if f"test/{name}" in known}
    return [_row(study, figure, title) for figure, title in titled.items()]


def _title(metric: Metric) -> str:
    return f"diversity {metric.title}" if metric.title.startswith("of ") else metric.title


def _row(study: SeedStudy, figure: str, title: str) -> Row:
    names = with_figure(study, figure, fewest=1)
    enough = with_figure(study, figure)
    return Row(
        figure,
        title,
        {name: study.trained(name, figure).values.tolist() for name in names},
        means(study, figure),
        compare_methods(study, enough, figure) if len(enough) > 1 else {},
    )


def told_apart(rows: Sequence[Row]) -> list[str]:
    """In sentences, what can be told apart and what cannot, figure by figure."""
    found = {row.figure: row for row in rows}
    by_network = [found[f"test/{name}"].pairs for name in LIKENESS if f"test/{name}" in found]
    sentences = []
    for row in rows:
        if not row.pairs or row.figure == f"test/{LIKENESS[1]}":
            continue
        if row.figure == f"test/{LIKENESS[0]}":
            sentences.append(_likeness(row, by_network))
            continue
        leads: dict[str, list[str]] = {}
        for first, second in row.apart:
            leads.setdefault(first, []).append(f"{second} by {points(row.pairs[first, second].difference)}")
        more = "is right more often than" if row.figure.endswith(RIGHT) else "varies more than"
        clauses = [f"{name} {more} {enumerate_words(of)}" for name, of in leads.items()]
        sentences.append(_sentence(row.title, clauses, row.alike))
    return sentences


def _likeness(row: Row, by_network: Sequence[Pairs]) -> str:
    nearer: dict[str, list[str]] = {}
    for first, second in row.pairs:
        if agreeing(by_network, first, second):
            nearer.setdefault(first, []).append(second)
    names = list(dict.fromkeys(name for pair in row.pairs for name in pair))
    alike = [
        (a, b)
        for a, b in combinations(names, 2)
        if not (agreeing(by_network, a, b) or agreeing(by_network, b, a))
    ]
    clauses = [f"{name} is nearer to real pictures than {enumerate_words(of)}" for name, of in nearer.items()]
    return _sentence("likeness, where two networks agree", clauses, alike)


def _sentence(title: str, clauses: Sequence[str], alike: Sequence[tuple[str, str]]) -> str:
    head = f"{title[0].upper()}{title[1:]}: "
    if not clauses:
        return f"{head}nothing tells the methods apart."
    rest = f"; not told apart: {', '.join(f'{a} and {b}' for a, b in alike)}" if alike else ""
    return f"{head}{'; '.join(clauses)}{rest}."


def table(study: SeedStudy) -> list[str]:
    """Mean, spread and range of each figure and method, one line each, then what is told apart."""
    rows = headline_rows(study)
    lines = []
    for row in rows:
        lines += ["", f"{row.title:34} {'mean':>7} {'spread':>7} {'lowest':>7} {'highest':>7}"]
        for name, values in row.values.items():
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            numbers = (statistics.mean(values), spread, min(values), max(values))
            lines.append(f"{name:34} " + " ".join(f"{number:7.1%}" for number in numbers))
    lines += ["", *(f"{name}: {diverged}" for name, diverged in _diverged(study).items())]
    return [*lines, *told_apart(rows)]


def _diverged(study: SeedStudy) -> dict[str, str]:
    """What is to be said of methods whose trainings failed."""
    found = {}
    for name, one in study.methods.items():
        total = len(one.finished) + len(one.diverged)
        if one.diverged:
            found[name] = f"{len(one.diverged)} of {total} trainings diverged"
            if len(one.finished) < FEWEST:
                found[name] += ", too few are left to rank it"
    return found


def replicates_page(study: SeedStudy) -> str:
    """The same in Markdown."""
    rows = headline_rows(study)
    names = list(study.methods)
    settings = f"the profile `{study.profile}`" if study.profile else "the settings of `params.yaml`"
    seeds = enumerate_words([str(seed) for seed in study.seeds])
    judged = next((each for one in study.methods.values() for each in one.finished), None)
    lines = [
        "# The methods over several trainings",
        "",
        f"Every method trained with the seeds {seeds} at {settings}; towers and codecs were trained anew "
        "each time, data, prompts and judges are the same. Below each mean its 95 % interval for other "
        "trainings and other prompts, then the figure of each training, in percent. Made by `salon seeds`; a "
        f"method with fewer than {FEWEST} trainings is not ranked.",
        "",
        "| | " + " | ".join(f"`{name}`" for name in names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for row in rows:
        lines.append(f"| {row.title} | " + " | ".join(_cell(row, name) for name in names) + " |")
    minutes = [
        f"{statistics.mean(each.minutes for each in one.finished):.1f}" if one.finished else "–"
        for one in study.methods.values()
    ]
    lines.append("| own training, minutes | " + " | ".join(minutes) + " |")
    diverged = [
        f"{len(one.diverged)} of {len(one.finished) + len(one.diverged)}" for one in study.methods.values()
    ]
    lines += ["| diverged | " + " | ".join(diverged) + " |", ""]
    if judged and judged.judgement.cost:
        cost = judged.judgement.cost
        lines += [
            f"{cost.train_flops:.3g} FLOPs for each training, shared stages included, on "
            f"{describe_machine(cost)}.",
            "",
        ]
    lines += ["## What can be told apart, and what cannot", ""]
    return "\n".join([*lines, *(f"- {sentence}" for sentence in told_apart(rows) or [NOT_YET]), ""])


NOT_YET = f"Nothing yet: no two methods have {FEWEST} trainings."


def _cell(row: Row, name: str) -> str:
    if name not in row.values:
        return "–"
    each = ", ".join(f"{100 * value:.1f}" for value in row.values[name])
    if name not in row.means:
        return each
    return f"**{percent(row.means[name].value)}**<br>{interval(row.means[name])}<br>{each}"

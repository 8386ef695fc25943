"""The verdict on the data in Markdown, short enough for a pull request."""

import re
from collections.abc import Iterable, Sequence

from salon.data.validate.drift import Drift
from salon.data.validate.expectations import shown
from salon.data.validate.results import Result, Verdict

ROWS_NAMED = 5  # failing rows per check
SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#|!~$&])")


def write_summary(verdict: Verdict, drift: Sequence[Drift] | None, *, source: str) -> str:
    """The page as text. Captions and ids are the users' text: everything is escaped.

    Args:
        drift: Against the accepted data; `None` when none were accepted.
    """
    if not verdict.passed:
        headline = f"{len(verdict.failures)} of {len(verdict.results)} checks failed"
    else:
        drifted = any(figure.drifted for figure in drift or ())
        headline = "passed, but not like the accepted data" if drifted else "passed"
    lines = [f"# Data: {headline}", "", *_overview(verdict, source=source)]
    for result in verdict.failures:
        lines += _failure(result)
    if verdict.passed:
        lines += _drift(drift)
    lines += _checks(verdict)
    return "\n".join(lines) + "\n"


def _overview(verdict: Verdict, *, source: str) -> list[str]:
    observed = verdict.report()["observed"]
    if not observed:
        return [f"Source {_escape(source)}; the rows could not be read.", ""]
    rows, languages = observed["rows"], observed["languages"]
    total = max(1, sum(rows.values()))
    cells = {"source": source}
    cells |= {split: str(n) for split, n in rows.items()}
    cells |= {lang: f"{n / total:.1%}" for lang, n in languages.items()}
    cells |= {kind: f"{observed[f'distinct_{kind}']} different" for kind in ("captions", "pictures")}
    return [_line(cells), "|" + "---|" * len(cells), _line(cells.values()), ""]


def _failure(result: Result) -> list[str]:
    head = f"## {_escape(result.name)}: {result.failed} of {result.checked} fail"
    lines = [head, "", _escape(result.means), ""]
    for failing in result.failing[:ROWS_NAMED]:
        where = [f"{key} {shown(failing[key])}" for key in failing if key not in ("problem", "caption")]
        if "caption" in failing:
            where.append(f"caption {shown(failing['caption'])}")
        lines.append(f"- {_escape(', '.join(where))}: {_escape(str(failing['problem']))}")
    if result.failed > ROWS_NAMED:
        lines.append(f"- and {result.failed - ROWS_NAMED} more")
    return [*lines, "", f"What to do: {_escape(result.remedy)}", ""]


def _drift(drift: Sequence[Drift] | None) -> list[str]:
    if drift is None:
        return ["No data were accepted yet: `salon validate --accept` keeps the figures of these.", ""]
    lines = ["| against the accepted data | accepted | now | limit | |", "|---|---|---|---|---|"]
    for figure in drift:
        verdict = "drifted" if figure.drifted else "ok"
        lines.append(_line([figure.means, figure.accepted, figure.now, figure.limit, verdict]))
    lines.append("")
    if any(figure.drifted for figure in drift):
        lines += ["If this is meant: `salon validate --accept`, and commit `data/accepted.json`.", ""]
    return lines


def _checks(verdict: Verdict) -> list[str]:
    lines = [f"<details><summary>All {len(verdict.results)} checks</summary>", "", "| check | | asked of |"]
    lines.append("|---|---|---|")
    lines += [_line([result.name, result.status, str(result.checked)]) for result in verdict.results]
    return [*lines, "", "</details>"]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(map(_escape, cells)) + " |"


def _escape(text: str) -> str:
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))

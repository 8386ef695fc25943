"""What several trainings of each method on the same towers and codecs say of *all right* on `test`."""

import numpy as np

from salon.judging.comparison import compare_all
from salon.judging.statistics import Estimate, Scores, bootstrap_mean
from salon.report.figures import SeedStudy
from salon.report.wording import enumerate_words, points


def spread_over_seeds(study: SeedStudy, *, bootstrap_samples: int) -> dict[str, Estimate]:
    """All right on `test` with an interval over prompts and seeds, where both are known."""
    rng = np.random.default_rng(0)
    return {
        name: bootstrap_mean(table, samples=bootstrap_samples, rng=rng)
        for name, table in _tables(study).items()
    }


def told_apart(study: SeedStudy) -> list[str]:
    """In sentences, who leads whom over prompts and seeds together."""
    tables = _tables(study)
    if len(tables) < 2:
        return []
    ranked = sorted(tables, key=lambda name: (-np.mean(tables[name]), name))
    leads: dict[str, list[str]] = {}
    for (first, second), found in compare_all([tables[name] for name in ranked]).items():
        if found.distinguishable:
            leads.setdefault(ranked[first], []).append(f"{ranked[second]} by {points(found.difference)}")
    sentences = [f"Over prompts and seeds, {name} leads {enumerate_words(of)}." for name, of in leads.items()]
    return sentences or ["Over prompts and seeds, nothing tells the methods apart."]


def _tables(study: SeedStudy) -> dict[str, Scores]:
    """Seeds x prompts of each method, where two trainings at least were judged on the same prompts."""
    tables = {
        name: np.array([[int(mark) for mark in row] for row in figures.verdicts])
        for name, figures in study.methods.items()
        if len(figures.verdicts) > 1
    }
    return tables if len({table.shape[1] for table in tables.values()}) == 1 else {}

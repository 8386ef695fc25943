"""The verdict in plain words. Every number in it is read from the figures or computed from them here."""

from collections.abc import Sequence

import numpy as np

from salon.judging.alignment import ALL
from salon.judging.statistics import Estimate, bootstrap_mean
from salon.report.figures import Evidence, MethodFigures

WEAK = 0.9  # below this share the sentence names the attribute that fails
LANGUAGES = {"en": "English", "ru": "Russian"}


def percent(share: float) -> str:
    """`0.9733` -> `97.3 %`, with a space that does not break."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def interval(estimate: Estimate) -> str:
    """`95.8 to 98.5 %`"""
    return f"{100 * estimate.low:.1f} to {percent(estimate.high)}"


def language(tag: str) -> str:
    """English name of a language tag, or the tag."""
    return LANGUAGES.get(tag, tag)


def enumerate_words(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`"""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def split_title(split: str) -> str:
    """What the prompts of a split ask for."""
    if split == "test":
        return "Combinations known from training"
    pairs = [enumerate_words(pair.split("_x_")) for pair in split.removeprefix("novel/").split("+")]
    return f"Never seen together: {'; '.join(pairs)}"


def split_note(split: str) -> str:
    """The same in a sentence."""
    if split == "test":
        return "every pair of attribute values in the caption occurs in training; the pictures do not"
    return "each value in the caption occurs in training, this pair of them never does"


def verdict(evidence: Evidence, ranked: Sequence[MethodFigures], *, bootstrap_samples: int) -> list[str]:
    """Sentences that say which method is best and how good it is, known and unknown ground apart."""
    best = ranked[0]
    sentences = [*_ranking(ranked, bootstrap_samples=bootstrap_samples), _known(best)]
    sentences += [_unseen(best, split) for split in evidence.splits if split != "test"]
    by_language = {
        tag: alignment[ALL].value
        for tag, alignment in best.splits["test"].languages.items()
        if ALL in alignment
    }
    if len(by_language) > 1:
        parts = [f"{percent(value)} of {language(tag)} captions" for tag, value in by_language.items()]
        sentences.append(f"On known combinations it follows {enumerate_words(parts)}.")
    sentences.append(
        f"One picture takes {best.cost['latency_ms_p50']:.0f} ms (median, alone) after "
        f"{best.cost['train_minutes']:.1f} minutes of training."
    )
    return sentences


def cheapest_good_setting(method: MethodFigures) -> str | None:
    """The smallest value of the dial that these prompts cannot tell from the best one."""
    if len(method.dial) < 2:
        return None
    best = max(method.dial, key=lambda row: row.all_right.value)
    fewest = next(row for row in method.dial if row.all_right.high >= best.all_right.low)
    unit = dial_title(best.dial)
    sentence = f"{method.name} is best at {best.setting} {unit} ({percent(best.all_right.value)})"
    if fewest.setting >= best.setting:
        worse = "nothing cheaper was tried" if best is method.dial[0] else "fewer are measurably worse"
        return f"{sentence}; {worse}."
    return (
        f"{sentence}; {fewest.setting} ({percent(fewest.all_right.value)}) is the smallest number whose "
        "interval reaches the best one's."
    )


def dial_title(dial: str) -> str:
    """What one unit of the dial is called."""
    return {"num_inference_steps": "steps"}.get(dial, dial)


def _known(method: MethodFigures) -> str:
    alignment = method.splits["test"].alignment
    attributes = enumerate_words([name for name in alignment if name != ALL])
    together = alignment[ALL]
    return (
        f"Asked for combinations it knows from training, {method.name} draws {attributes} all as the "
        f"caption says in {percent(together.value)} of {together.n} pictures (95\N{NO-BREAK SPACE}% interval "
        f"{interval(together)})."
    )


def _unseen(method: MethodFigures, split: str) -> str:
    alignment = method.splits[split].alignment
    together = alignment[ALL]
    pair = split_title(split).partition(": ")[2]
    sentence = (
        f"Where training never showed this {pair} together, everything is right in "
        f"{percent(together.value)} of {together.n} ({interval(together)})"
    )
    if together.value >= WEAK:
        return sentence + "."
    weakest = min((name for name in alignment if name != ALL), key=lambda name: alignment[name].value)
    others = [name for name in alignment if name not in (ALL, weakest)]
    rest = enumerate_words([f"{name} in {percent(alignment[name].value)}" for name in others])
    return f"{sentence}: {weakest} is right in {percent(alignment[weakest].value)}" + (
        f", {rest}." if rest else "."
    )


def _ranking(ranked: Sequence[MethodFigures], *, bootstrap_samples: int) -> list[str]:
    if len(ranked) < 2:
        return []
    order = [f"{method.name} ({percent(method.splits['test'].alignment[ALL].value)})" for method in ranked]
    sentences = [f"At equal budgets the order on known combinations is {', '.join(order)}."]
    first, second = ranked[:2]
    lead = paired_lead(first, second, samples=bootstrap_samples)
    if lead is None:
        return sentences
    points = (
        f"{100 * lead.value:.1f} points (95\N{NO-BREAK SPACE}% interval {100 * lead.low:.1f} to "
        f"{100 * lead.high:.1f})"
    )
    if lead.low > 0:
        return [*sentences, f"On the same prompts {first.name} leads {second.name} by {points}."]
    return [
        *sentences,
        f"On the same prompts {first.name} is {points} ahead of {second.name}: too close to call.",
    ]


def paired_lead(first: MethodFigures, second: MethodFigures, *, samples: int) -> Estimate | None:
    """How much more often `first` has everything right than `second`, prompt by prompt.

    `None` when they were not judged on the same prompts.
    """
    a = {sample["id"]: sample[ALL] for sample in first.splits["test"].samples}
    b = {sample["id"]: sample[ALL] for sample in second.splits["test"].samples}
    if not a or a.keys() != b.keys():
        return None
    differences = np.array([float(a[key]) - float(b[key]) for key in sorted(a)])
    return bootstrap_mean(differences, samples=samples, rng=np.random.default_rng(0))

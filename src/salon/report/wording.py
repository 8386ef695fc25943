"""How figures read in plain words."""

from collections.abc import Mapping, Sequence

from salon.judging.record import Cost
from salon.judging.statistics import Estimate

LANGUAGES = {"en": "English", "ru": "Russian"}
SETTINGS = {
    "guidance_scale": "guidance {:g}",
    "temperature": "temperature {:g}",
    "num_inference_steps": "{:g} steps",
    "refinement": "refinement {:g}",
    "candidates": "best of {:g}",
}


def percent(share: float) -> str:
    """`0.9733` -> `97.3 %`, with a space that does not break."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def interval(estimate: Estimate) -> str:
    """`95.8 to 98.5 %`"""
    return f"{100 * estimate.low:.1f} to {percent(estimate.high)}"


def span(estimate: Estimate) -> str:
    """`0.0112 to 0.0304`, of a figure that is no share."""
    return f"{decimal(estimate.low)} to {decimal(estimate.high)}"


def decimal(number: float) -> str:
    """Three digits that matter, `0.0123`, `1.41` or `14.8`, and a real minus."""
    digits = max(0, 3 - len(f"{abs(number):.0f}")) if abs(number) >= 1 else 3
    text = f"{number:.{digits}f}"
    return f"{0:.{digits}f}" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def points(difference: Estimate) -> str:
    """`3.2 points (1.0 to 5.4)`, of a difference between two shares."""
    ends = f"{100 * difference.low:.1f} to {100 * difference.high:.1f}".replace("-", "\N{MINUS SIGN}")
    return f"{100 * difference.value:.1f} points ({ends})"


def language(tag: str) -> str:
    """English name of a language tag, or the tag."""
    return LANGUAGES.get(tag, tag)


def enumerate_words(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`"""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def prompts_of_test(*, captions_alone: bool) -> str:
    """What the prompts of `test` are."""
    return "held-out captions" if captions_alone else "known combinations"


def split_title(split: str, *, captions_alone: bool = False) -> str:
    """What the prompts of a split ask for."""
    known = "Captions held out of" if captions_alone else "Combinations known from"
    return f"{known} training" if split == "test" else f"Never seen together: {novel_pair(split)}"


def novel_pair(split: str) -> str:
    """`novel/concept_x_style` -> `concept and style`"""
    pairs = [enumerate_words(pair.split("_x_")) for pair in split.removeprefix("novel/").split("+")]
    return "; ".join(pairs)


def split_note(split: str, *, captions_alone: bool = False) -> str:
    """The same in a sentence."""
    if split != "test":
        return "each value in the caption occurs in training, this pair of them never does"
    if captions_alone:
        return "training showed other pictures, in other words for the most part"
    return "every pair of attribute values in the caption occurs in training; the pictures do not"


def describe_settings(settings: Mapping[str, float]) -> str:
    """`guidance 1.5, 8 steps`"""
    return ", ".join(SETTINGS.get(name, f"{name} {{:g}}").format(value) for name, value in settings.items())


def describe_machine(cost: Cost) -> str:
    """What a method's seconds were measured on: `2 CPU cores`."""
    own = f"{cost.cpu_cores} CPU core{'' if cost.cpu_cores == 1 else 's'}"
    return own if cost.device == "cpu" else f"{cost.device.removeprefix('cuda: ')} beside {own}"

"""The model card: what a model is, how good it is, whose pictures it learned from, how to call it.

Every figure comes from the jury's metrics, and what was not measured is not spoken of: a source of one's own
may have no attributes, and no combinations that training lacks.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import salon
from salon.judging.alignment import ALL, CAPTION
from salon.judging.metrics import METRICS
from salon.judging.record import Judgement, SplitFigures
from salon.judging.statistics import Estimate

SURELY_WEAK = 0.9  # a share whose whole interval lies below is named among the limits


def model_card(
    *,
    method: str,
    family: str,
    image_size: int,
    judgement: Judgement,
    ledger: Mapping[str, Any],
    licences: Sequence[str],
    data_sha256: str,
    model_sha256: str,
    commit: str | None,
) -> str:
    """Markdown, free of times, so that the same model has the same card."""
    assert judgement.cost is not None
    lines = [
        f"# salon-{method}\n",
        f"Text to image, family `{family}`, {image_size}×{image_size} pixels. A prompt in, a PNG out that "
        "says in its metadata that it is AI-generated. It draws what its training captions spoke of and "
        "nothing else: words that it never saw come back as warnings.",
        "\n## Quality",
        *_quality(judgement),
        "\n## Cost",
        f"- {judgement.cost.latency_ms_p50:.0f} ms per picture (p50, batch 1, on the machine that judged it)",
        f"- {ledger['train_flops']:.3g} training FLOPs, {ledger['train_minutes']:.1f} minutes, "
        f"{judgement.cost.parameters:,} parameters, codec included and text tower apart; "
        f"{judgement.cost.picture_flops:.3g} FLOPs a picture",
        f"- {judgement.cost.selection_flops:.3g} FLOPs and {judgement.cost.selection_minutes:.1f} minutes "
        "more to choose on val how it draws",
        "\n## Use",
        f"`mlflow models serve -m models:/salon-{method}@champion --env-manager local`, then POST to "
        '`/invocations`: `{"dataframe_records": [{"prompt": "…", "seed": 7}]}`. Optional per row or as '
        "`params`: `seed`, `num_inference_steps`, `guidance_scale`, `num_images`.",
        f"\nIt needs the package salon {salon.__version__} in the environment, which is on no index: "
        f"`pip install .` in a clone of its repository{f' at {commit[:12]}' if commit else ''}.",
        "\n## Provenance",
        f"- weights {model_sha256}",
        f"- data {data_sha256}",
        "- pictures by " + "; ".join(licences),
        "\n## Limits",
        "Small pictures of a closed world. Not for people, text, or anything that must be true.",
        *_limits(judgement),
    ]
    return "\n".join(lines) + "\n"


def _quality(judgement: Judgement) -> Iterator[str]:
    test = judgement.splits["test"]
    judge = (
        "an independent judge of pictures and captions picks the prompt among other captions"
        if CAPTION in test.alignment
        else "an independent classifier finds what the prompt asked for"
    )
    yield f"Share of pictures in which {judge}, with its 95 % interval."
    yield "\n| prompts | right | share |\n|---|---|---|"
    for title, figures in _splits(judgement):
        yield from (
            f"| {title} | {name} | {_per_cent(figure)} |"
            for name, figure in sorted(figures.alignment.items())
            if name != ALL or CAPTION not in figures.alignment
        )
    yield ""
    for metric in METRICS.values():
        if metric.card and (figure := test.metrics.get(metric.name)):
            yield f"- {metric.card}: {figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})"
    if copies := judgement.memorisation:
        yield (
            f"- copies of training pictures: {_per_cent(copies.copy_rate)}; through its own codec or "
            f"denoiser {100 * copies.power:.0f} % of planted copies are found, so that a share of "
            f"{100 * copies.detectable_rate:.1f} % would stand out"
        )
        yield (
            "- nearer to a training picture than to one that training did not see: "
            f"{_per_cent(copies.nearer)}; 50 % without memory"
        )
        if drawing := copies.splits["test"].drawing:
            yield f"- pictures that reproduce the source drawing that was asked for: {_per_cent(drawing)}"


def _splits(judgement: Judgement) -> Iterator[tuple[str, SplitFigures]]:
    for split, figures in judgement.reported.items():
        pairs = split.removeprefix("novel/").replace("+", " and ").replace("_x_", " with ")
        title = f"novel: {pairs}, a combination that training never showed"
        yield "test: drawn anew, of what training showed" if split == "test" else title, figures


def _limits(judgement: Judgement) -> Iterator[str]:
    """What the figures themselves say is weak."""
    for title, figures in _splits(judgement):
        right = figures.all_right
        if right.high < SURELY_WEAK:
            yield f"Something is wrong in {100 * (1 - right.value):.0f} % of its pictures of “{title}”."


def _per_cent(figure: Estimate) -> str:
    return f"{100 * figure.value:.1f} % ({100 * figure.low:.1f} to {100 * figure.high:.1f})"

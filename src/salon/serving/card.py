"""The model card: what a model is, how good it is, whose pictures it learned from, how to call it."""

from collections.abc import Mapping, Sequence
from typing import Any

import salon

SPLITS = {
    "test": "combinations seen in training, drawn anew",
    "novel/concept_x_background": "concept on a background it was never seen on",
    "novel/concept_x_style": "concept in a style it was never seen in",
}


def model_card(
    *,
    method: str,
    family: str,
    metrics: Mapping[str, Any],
    ledger: Mapping[str, Any],
    licences: Sequence[str],
    data_sha256: str,
    model_sha256: str,
    commit: str | None,
) -> str:
    """Markdown, free of times, so that the same model has the same card."""
    cost = metrics["cost"]
    lines = [
        f"# salon-{method}",
        "",
        f"Text to image, family `{family}`. A prompt in, a PNG out that says in its metadata that it is "
        "AI-generated. It draws what its training captions spoke of and nothing else: words that it never "
        "saw come back as warnings.",
        "",
        "## Quality",
        "Share of pictures in which an independent classifier finds what the prompt asked for, with its 95 % "
        "interval.",
        "",
        *_table(metrics),
        "",
        "## Cost",
        f"- {cost['latency_ms_p50']:.0f} ms per picture (p50, batch 1)",
        f"- {ledger['train_flops']:.3g} training FLOPs, {ledger['train_minutes']:.1f} minutes, "
        f"{ledger['parameters']:,} parameters",
        "",
        "## Use",
        f"`mlflow models serve -m models:/salon-{method}@champion --env-manager local`, then POST to "
        '`/invocations`: `{"dataframe_records": [{"prompt": "…", "seed": 7}]}`. Optional per row or as '
        "`params`: `seed`, `num_inference_steps`, `guidance_scale`, `num_images`.",
        "",
        f"It needs the package salon {salon.__version__} in the environment, which is on no index: "
        f"`pip install .` in a clone of its repository{f' at {commit[:12]}' if commit else ''}.",
        "",
        "## Provenance",
        f"- weights {model_sha256}",
        f"- data {data_sha256}",
        "- pictures by " + "; ".join(licences),
        "",
        "## Limits",
        "Small pictures of a closed world. Not for people, text, or anything that must be true.",
    ]
    return "\n".join(lines) + "\n"


def _table(metrics: Mapping[str, Any]) -> list[str]:
    rows = []
    for split, meaning in SPLITS.items():
        figures: Any = metrics
        for part in [*split.split("/"), "alignment"]:
            figures = figures.get(part, {})
        rows += [
            f"| {split}: {meaning} | {name} | {100 * figure['value']:.1f} % "
            f"({100 * figure['low']:.1f} to {100 * figure['high']:.1f}) |"
            for name, figure in figures.items()
        ]
    return ["| prompts | right | share |", "|---|---|---|", *rows]

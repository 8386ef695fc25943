"""The leakage check: no network that a method was trained with or steered by may judge it.

A method that optimises its judge gets a score worth nothing (GALIP's CLIP score, measured with the network it
was guided by). A method sees no more than what the stages before it made, and its ledger lists those: the
towers whose text states it reads and whose similarity it may climb, the codec whose latents it draws.
"""

from collections.abc import Mapping
from typing import Any

from salon.errors import SalonError
from salon.judging.metrics import judging_networks


def refuse_leaks(ledger: Mapping[str, Any], *, method: str, judges: Mapping[str, str] | None = None) -> None:
    """Let no score stand that comes from a network which the method optimized.

    Args:
        judges: Metric -> the network that gives it; as a rule those of the table.

    Raises:
        SalonError: a judge took part in the training, which names it and the metrics it gives; or the ledger
            does not say what did: `shared` and, if named, `optimized`.
    """
    if "shared" not in ledger:
        raise SalonError(
            f"the ledger of {method} does not say which networks it was trained with, and no judge is known "
            f"to be independent of it: run `dvc repro --force train@{method}`"
        )
    judges = judging_networks() if judges is None else judges
    if leaked := {*ledger["shared"], *ledger.get("optimized", ())} & set(judges.values()):
        parts = [
            f"{network} ({', '.join(metric for metric, judge in judges.items() if judge == network)})"
            for network in sorted(leaked)
        ]
        raise SalonError(
            f"{method} was trained with networks that would judge it: {'; '.join(parts)}. Train it without "
            "them, or judge these metrics by another network"
        )

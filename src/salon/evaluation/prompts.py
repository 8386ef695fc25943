"""Which captions the jury asks every method to draw, per split and kind of novelty."""

from salon.data.dataset import CaptionedImages, Dataset
from salon.data.splits import novelty_kind, seen_pairs
from salon.judging.classifier import select


def prompts_per_split(data: Dataset, count: int) -> dict[str, CaptionedImages]:
    """`val`, `test` and each kind of `novel`: the first `count` rows of each."""
    train_pairs = seen_pairs(data.attributes("train"))
    chosen = {split: select_first(data[split], count) for split in ("val", "test")}
    kinds = [novelty_kind(row, train_pairs) for row in data.attributes("novel")]
    for kind in sorted(set(filter(None, kinds))):
        chosen[f"novel/{kind}"] = select_first(select(data["novel"], [k == kind for k in kinds]), count)
    return chosen


def select_first(data: CaptionedImages, count: int) -> CaptionedImages:
    """The first `count` rows."""
    return data.take(range(min(count, len(data))))

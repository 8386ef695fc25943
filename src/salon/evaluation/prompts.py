"""Which captions the jury asks every method to draw, per split and kind of novelty."""

from salon.data.dataset import CaptionedImages, load_split
from salon.data.shards import read_tables
from salon.data.splits import novelty_kind, seen_pairs
from salon.judging.classifier import select
from salon.paths import Paths


def prompts_per_split(paths: Paths, count: int) -> dict[str, CaptionedImages]:
    """`val`, `test` and each kind of `novel`: the first `count` rows of each."""
    training = read_tables(paths.interim, ["train"], columns=["attributes"])
    train_pairs = seen_pairs([dict(pairs) for pairs in training["attributes"].to_pylist()])
    chosen = {split: select_first(load_split(paths.interim, split), count) for split in ("val", "test")}
    novel = load_split(paths.interim, "novel")
    kinds = [novelty_kind(row, train_pairs) for row in novel.attributes]
    for kind in sorted({kind for kind in kinds if kind}):
        chosen[f"novel/{kind}"] = select_first(select(novel, [k == kind for k in kinds]), count)
    return chosen


def select_first(data: CaptionedImages, count: int) -> CaptionedImages:
    """The first `count` rows."""
    return select(data, [i < count for i in range(len(data))])

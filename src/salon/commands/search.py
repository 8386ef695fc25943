"""Find pictures by text with the contrastive towers."""

import sys
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from salon.data.dataset import Dataset
from salon.data.shards import shard_paths
from salon.errors import SalonError
from salon.images import image_grid, to_float
from salon.paths import SPLITS, Paths
from salon.towers.search import embed_pictures, kept_embeddings, nearest
from salon.towers.tower import ClipTower


def run(paths: Paths, query: str, *, split: str = "train", top: int = 12, out: Path | None = None) -> None:
    """Print id, similarity and caption of the best pictures, best first; write them as a grid to `out`.

    Raises:
        SalonError: nothing to search for, no such split, or no towers.
    """
    if not query.strip():
        raise SalonError("the query is empty: say what to look for, e.g. salon search 'an owl on blue'")
    if split not in SPLITS:
        raise SalonError(f"unknown split {split!r}: one of {', '.join(SPLITS)}")
    if top < 1:
        raise SalonError(f"--top {top} is out of range: 1 or more")
    if out and out.suffix.lower() != ".png":
        raise SalonError(f"--out {out}: the grid is a PNG, name it so")
    data, shards = Dataset(paths.interim), shard_paths(paths.interim, split)
    disable_progress_bar()  # the answer is the output, not the loading of a small file
    tower = ClipTower.load(paths.clip)
    if unknown := tower.unknown_words(query):
        print(f"warning: never seen in training: {', '.join(unknown)}", file=sys.stderr)
    if tower.is_truncated(query):
        print(f"warning: only the first {tower.max_tokens} tokens are read", file=sys.stderr)

    weights = sorted((paths.clip / "image").glob("*"))
    embeddings = kept_embeddings(
        paths.scratch / "search",
        split,
        inputs=[*weights, *shards],
        embed=lambda: embed_pictures(tower, data[split].images),
    )
    hits = nearest(embeddings, tower.encode_text([query]).pooled[0].cpu(), top=top)

    ids, captions = data.ids(split), data.captions(split)
    for hit in hits:
        print(f"{ids[hit.row]}  {hit.similarity:.3f}  {captions[hit.row]}")
    if out:
        images = to_float(data[split].images[[hit.row for hit in hits]])
        out.parent.mkdir(parents=True, exist_ok=True)
        image_grid(images, columns=min(len(hits), 6), zoom=max(1, 128 // images.shape[-1])).save(out)
        print(f"grid: {out}")

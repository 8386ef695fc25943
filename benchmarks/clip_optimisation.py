"""What is left of CLIP-guided generation without a trained decoder? The ablation of `salon.methods.clip`.

Pixels are moved by Adam until the picture's embedding agrees with the caption's, as in the first CLIP-guided
pictures (Crowson 2022, sec. 3), with random shifts against adversarial patterns. Prints the cosine that is
reached, beside that of real pictures, and the share of pictures that the independent scorer finds right. Look
at the pictures too: the cosine is higher than that of real ones, and what it shows is coloured rubble.

    python benchmarks/clip_optimization.py --pictures 64 --steps 200 --out rubble.png
"""

import argparse
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from salon.data.dataset import Dataset
from salon.images import image_grid, to_float, to_uint8
from salon.judging.classifier import AttributeScorer, accuracy
from salon.paths import Paths
from salon.towers.tower import ClipTower, TwoTowers

MAX_SHIFT = 2  # pixels
LR = 0.05


def optimize(
    towers: TwoTowers,
    target: Float[Tensor, "b e"],
    *,
    image_size: int,
    steps: int,
    generator: torch.Generator,
) -> Float[Tensor, "b 3 h w"]:
    """Pictures in [-1, 1] whose embeddings agree with `target`."""
    logits = 0.1 * torch.randn(len(target), 3, image_size, image_size, generator=generator)
    logits.requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=LR)
    for _ in range(steps):
        down, right = torch.randint(0, 2 * MAX_SHIFT + 1, (2,), generator=generator).tolist()
        padded = F.pad(logits.tanh(), (MAX_SHIFT,) * 4, mode="replicate")
        shifted = padded[:, :, down : down + image_size, right : right + image_size]
        loss = -(towers.encode_images(shifted) * target).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return logits.detach().tanh()


def main() -> None:
    """Optimize a picture for each of the first captions of `test` and have the scorer judge them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=Path(), help="workspace with trained towers and scorer")
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=Path, help="PNG of the pictures")
    arguments = parser.parse_args()

    paths = Paths(arguments.root)
    test = Dataset(paths.interim)["test"]
    tower = ClipTower.load(paths.clip)
    scorer = AttributeScorer.from_pretrained(paths.scorer)
    n = arguments.pictures
    target = tower.encode_text(test.captions[:n]).pooled.clone()
    with torch.no_grad():
        real = (tower.towers.encode_images(to_float(test.images[:n])) * target).sum(dim=1).mean()
    drawn = optimize(
        tower.towers,
        target,
        image_size=test.images.shape[-1],
        steps=arguments.steps,
        generator=torch.Generator().manual_seed(0),
    )
    with torch.no_grad():
        reached = (tower.towers.encode_images(drawn) * target).sum(dim=1).mean()
    right = accuracy(scorer.judge(to_uint8(drawn)), test.attributes[:n])
    print(f"cosine with the caption: optimized {reached:.3f}, real pictures {real:.3f}")
    print("right: " + ", ".join(f"{name} {share:.0%}" for name, share in right.items()))
    if arguments.out:
        image_grid(drawn, columns=8, zoom=max(1, 128 // drawn.shape[-1])).save(arguments.out)


if __name__ == "__main__":
    main()

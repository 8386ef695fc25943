"""Tokenizer and contrastive towers on the training split; the states of every caption, cached."""

import shutil

import torch

from salon.data.dataset import CaptionedImages, load_split
from salon.devices import single_device
from salon.files import write_json
from salon.images import to_float
from salon.params import Params
from salon.paths import SPLITS, Paths
from salon.towers.contrastive import HardNegatives, info_nce, probe_attributes
from salon.towers.probes import zero_shot_accuracy
from salon.towers.states import TextStateCache
from salon.towers.tokenizer import train_tokenizer
from salon.towers.tower import ClipTower, TwoTowers, build_towers, tokenize
from salon.training.batches import batch_indices
from salon.training.budget import count_forward_flops, count_step_flops
from salon.training.fit import fit

PAIRS = 6000  # pictures whose embeddings say which directions of the words can be seen


def run(params: Params, paths: Paths) -> None:
    """Write `models/clip/`, `data/processed/text_states/` and `reports/metrics/clip_tower.json`."""
    settings = params.clip
    splits = {split: load_split(paths.interim, split) for split in SPLITS}
    train = splits["train"]
    tokenizer = train_tokenizer(
        sorted(set(train.captions)), vocab_size=settings.vocab_size, max_tokens=settings.max_tokens
    )
    torch.manual_seed(params.seed)
    towers = build_towers(settings, tokenizer)
    contrast = _Contrast(train, tokenizer, params)
    step_flops = count_step_flops(towers, lambda twin: contrast.loss(twin, 0))
    device = single_device(params.training)
    report = fit(
        towers,
        contrast.loss,
        name="train_clip",
        total_steps=settings.max_steps,
        lr=settings.lr,
        device=device,
    )

    embedding_flops = count_forward_flops(lambda: towers.encode_images(to_float(train.images[:1])))
    embeddings = _encode_all(towers.to(device), train.images[:PAIRS])
    tower = ClipTower.after_training(towers, tokenizer, train.captions, embeddings=embeddings).to(device)
    probe = probe_attributes(tower, splits["val"], train)
    zero_shot = {split: zero_shot_accuracy(tower, splits[split], train) for split in ("val", "novel")}
    captions = sorted({caption for split in splits.values() for caption in split.captions})
    cache = TextStateCache(captions, tower.encode_text(captions).to("cpu"))

    for folder in (paths.clip, paths.text_states):
        shutil.rmtree(folder, ignore_errors=True)
    tower.to("cpu").save(paths.clip)
    cache.save(paths.text_states)
    metrics = {
        "probe": {name: round(value, 4) for name, value in probe.accuracy.items()},
        "probe_trials": probe.trials,
        "zero_shot": {
            split: {name: round(value, 4) for name, value in accuracy.items()}
            for split, accuracy in zero_shot.items()
        },
        "loss": round(report.loss, 4),
        "directions_of_words": tower.concept.directions.shape[1],
        "truncated_captions": sum(tower.is_truncated(caption) for caption in captions),
        "cost": {
            "train_flops": step_flops * report.steps + embedding_flops * len(embeddings),
            "train_minutes": round(report.minutes, 3),
            "images_seen": report.steps * settings.batch_size,
            "parameters": sum(p.numel() for p in towers.parameters()),
        },
    }
    write_json(paths.clip_metrics, metrics)
    print(f"contrastive towers: {metrics}")


@torch.inference_mode()
def _encode_all(towers: TwoTowers, images: torch.Tensor, *, batch_size: int = 512) -> torch.Tensor:
    """Embeddings (n, e) of uint8 pictures."""
    device = towers.log_scale.device
    parts = [towers.encode_images(to_float(batch.to(device))).cpu() for batch in images.split(batch_size)]
    return torch.cat(parts)


class _Contrast:
    """The loss of step i, as a function of the seed and i alone."""

    def __init__(self, train: CaptionedImages, tokenizer: object, params: Params) -> None:
        self.train = train
        self.settings = params.clip
        self.seed = params.seed
        distinct = sorted(set(train.captions))
        number = {caption: i for i, caption in enumerate(distinct)}
        self.caption_of_row = torch.tensor([number[caption] for caption in train.captions])
        self.tokens = tokenize(tokenizer, distinct, max_tokens=self.settings.max_tokens)  # type: ignore[arg-type]
        # rows without attributes are described by their caption alone
        descriptions = [
            tuple(sorted(row.items())) or (("caption", caption),)
            for row, caption in zip(train.attributes, train.captions, strict=True)
        ]
        self.numbers = {description: i for i, description in enumerate(dict.fromkeys(descriptions))}
        self.number_of_row = torch.tensor([self.numbers[description] for description in descriptions])
        self.negatives = HardNegatives(train.attributes, self.caption_of_row)

    def loss(self, towers: TwoTowers, step: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        rows = batch_indices(step, size=len(self.train), batch_size=self.settings.batch_size, seed=self.seed)
        extra, extra_descriptions = self.negatives.draw(
            rows, per_row=self.settings.hard_negatives, generator=generator
        )
        own_numbers = self.number_of_row[rows]
        extra_numbers = torch.tensor([self.numbers[each] for each in extra_descriptions], dtype=torch.long)
        same = own_numbers[:, None] == torch.cat([own_numbers, extra_numbers])
        captions = torch.cat([self.caption_of_row[rows], torch.tensor(extra, dtype=torch.long)])
        device = towers.log_scale.device
        _, texts = towers.encode_text(
            self.tokens["input_ids"][captions].to(device), self.tokens["attention_mask"][captions].to(device)
        )
        images = towers.encode_images(to_float(self.train.images[rows]).to(device))
        return info_nce(images, texts, logit_scale=towers.logit_scale, same=same.to(device))

"""Tokenizer and contrastive towers on the training split; the states of every caption, cached."""

import torch

from salon.data.dataset import Dataset
from salon.devices import single_device
from salon.files import whole_folder, write_json
from salon.images import to_float
from salon.params import Params
from salon.paths import SPLITS, Paths
from salon.towers.contrastive import ContrastiveTask, PairBatches
from salon.towers.probes import probe_attributes, zero_shot_accuracy
from salon.towers.states import TextStateCache
from salon.towers.tokenizer import train_tokenizer
from salon.towers.tower import ClipTower, build_towers
from salon.training.cost import count_forward_flops
from salon.training.module import Optimization
from salon.training.run import training_run
from salon.training.trainer import StepCost, count_step, small_network, train

PAIRS = 6000  # images whose embeddings say which directions of the words can be seen


def run(params: Params, paths: Paths) -> None:
    """Write `models/clip/`, `data/processed/text_states/` and `reports/metrics/clip_tower.json`."""
    settings, seed = params.clip, params.training_seed
    splits = Dataset(paths.interim)
    images = splits["train"]
    tokenizer = train_tokenizer(
        sorted(set(images.captions)), vocab_size=settings.vocab_size, max_tokens=settings.max_tokens
    )
    torch.manual_seed(seed)
    task = ContrastiveTask(build_towers(settings, tokenizer))
    source = PairBatches(images, tokenizer, settings, seed=seed)
    logged = {"seed": seed, "clip": settings.model_dump()}
    with training_run(params, paths, name="towers", stage="train_clip", settings=logged) as (run, resume):
        trained = train(
            task,
            source,
            optimization=Optimization(lr=settings.lr),
            total_steps=settings.max_steps,
            cost=StepCost(count_step(task, source, seed=seed)),
            seed=seed,
            settings=small_network(params.training),
            resume=resume,
            held_out=PairBatches(splits["val"], tokenizer, settings, seed=seed),
            run=run,
        )
    towers = trained.task.towers

    embedding_flops = count_forward_flops(lambda: towers.encode_images(to_float(images.images[:1])))
    device = single_device(params.training)
    embeddings = towers.to(device).embed(images.images[:PAIRS])
    tower = ClipTower.after_training(towers, tokenizer, images.captions, embeddings=embeddings).to(device)
    probe = probe_attributes(tower, splits["val"], images)
    zero_shot = {split: zero_shot_accuracy(tower, splits[split], images) for split in ("val", "novel")}
    captions = sorted({caption for split in SPLITS for caption in splits.captions(split)})
    cache = TextStateCache(captions, tower.encode_text(captions).to("cpu"))

    with whole_folder(paths.clip) as folder:
        tower.to("cpu").save(folder)
    with whole_folder(paths.text_states) as folder:
        cache.save(folder)
    metrics = {
        "probe": {name: round(value, 4) for name, value in probe.accuracy.items()},
        "probe_trials": probe.trials,
        "zero_shot": {
            split: {name: round(value, 4) for name, value in accuracy.items()}
            for split, accuracy in zero_shot.items()
        },
        "loss": round(trained.loss, 4),
        "directions_of_words": tower.concept.directions.shape[1],
        "truncated_captions": sum(tower.is_truncated(caption) for caption in captions),
        "cost": {
            "train_flops": trained.cost.train_flops + embedding_flops * len(embeddings),
            "train_minutes": round(trained.cost.train_minutes, 3),
            "images_seen": trained.cost.images_seen,
            "parameters": sum(p.numel() for p in towers.parameters()),  # with the fitted directions
        },
    }
    write_json(paths.clip_metrics, metrics)
    print(f"contrastive towers: {metrics}")

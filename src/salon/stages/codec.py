"""Train a codec on the training images, and refuse it when its reconstructions lose what matters."""

from dataclasses import asdict
from functools import partial

import torch

from salon.codecs import DiscreteCodec, load_codec, read_codec_config
from salon.data.batches import ImageBatches
from salon.data.dataset import Dataset
from salon.files import whole_folder, write_json
from salon.judging.classifier import AttributeScorer
from salon.judging.reconstruction import gate, judge_codec, rate_distortion, reconstruction_grid
from salon.params import Params
from salon.paths import Paths
from salon.tracking import runs
from salon.training.codec import Codebook, count_codec_cost
from salon.training.cost import LEDGER, codec_costs
from salon.training.module import Optimization
from salon.training.run import training_run
from salon.training.trainer import small_network, train


def run(params: Params, paths: Paths, name: str) -> None:
    """Write `models/codecs/<name>/`, its metrics and its pictures, and an MLflow run.

    Raises:
        SalonError: bad settings or missing inputs.
        GateError: too little of the held-out pictures survives the codec.
    """
    seed = params.training_seed
    family, config = read_codec_config(name, params.codec(name))
    splits = Dataset(paths.interim)
    scorer = AttributeScorer.from_pretrained(paths.scorer) if splits.has_attributes else None

    start = load_codec(paths.codec(config.start))
    if isinstance(start, DiscreteCodec):
        config = config.following(start.config)
    torch.manual_seed(seed)
    codec = family(config)
    codec.start_from(start)
    task = codec.task()
    batches = partial(ImageBatches, batch_size=config.batch_size, seed=seed)
    source, held_out = batches(splits["train"].images), batches(splits["val"].images)
    settings = {"seed": seed, "codec": config.model_dump(mode="json")}
    inputs, tags = [paths.codec(config.start)], {"salon.codec": name}
    with training_run(
        params, paths, name=f"codec-{name}", stage="codec", settings=settings, inputs=inputs, tags=tags
    ) as (run, resume):
        trained = train(
            task,
            source,
            optimization=Optimization(lr=config.lr),
            total_steps=config.max_steps,
            cost=count_codec_cost(task, source, seed=seed),
            seed=seed,
            settings=small_network(params.training),
            resume=resume,
            held_out=held_out,
            run=run,
            callbacks=[Codebook(source, run, seed=seed)],
        )
        assert run is not None, "a codec is trained by one process"
        codec, own = trained.task.codec, trained.cost
        judged = [split for split in ("val", "test", "novel") if len(splits[split])]
        metrics = {split: judge_codec(codec, splits[split], scorer) for split in judged}
        cost = asdict(own) | {"parameters": sum(p.numel() for p in codec.parameters())}
        write_json(paths.codec_metrics(name), metrics | {"cost": cost})
        grid = reconstruction_grid(codec, splits["test"].images)
        run.log_grid("reconstructions", grid, step=own.steps)
        curve = rate_distortion(codec, splits["test"].images, name=name)
        with whole_folder(paths.codec_pictures(name)) as folder:
            grid.save(folder / "reconstructions.png")
            write_json(folder / "rate_distortion.json", [asdict(point) for point in curve])
        figures = {f"test/{key}": value for key, value in runs.flatten(metrics["test"]).items()}
        run.log_metrics(figures, step=own.steps)
        gate(config, metrics["val"], name=name)
        ledger = {"run_id": run.id, "own": cost, "shared": codec_costs(paths, config.start)}
        with whole_folder(paths.codec(name)) as folder:
            codec.save_pretrained(folder)
            write_json(folder / LEDGER, ledger)
    print(f"codec {name}: {metrics['val']}; weights in {paths.codec(name)}")

"""Train one method within its budget; killed and started again, it goes on."""

from dataclasses import asdict

import torch

from salon.data.dataset import Dataset
from salon.files import whole_folder, write_json
from salon.methods.base import DataShape, FrozenNets, read_config
from salon.params import Params
from salon.paths import Paths
from salon.towers.states import TextStateCache
from salon.training.cost import LEDGER, shared_costs, steps_within
from salon.training.method import GRID_IMAGES, MethodBatches, SampleGrids, count_cost
from salon.training.module import Optimization
from salon.training.run import training_run
from salon.training.trainer import train


def run(params: Params, paths: Paths, name: str) -> None:
    """Write `models/methods/<name>/` and an MLflow run.

    Raises:
        SalonError: bad settings, missing inputs, or a budget that leaves no step.
    """
    seed = params.training_seed
    method_class, config = read_config(name, params.method(name))
    splits = Dataset(paths.interim)
    images, val = splits["train"], splits["val"]
    cache = TextStateCache.load(paths.text_states)
    frozen = FrozenNets.load(codec=paths.codec(config.codec), clip=paths.clip)
    shared = shared_costs(paths, config.codec)
    shared_flops = sum(cost["train_flops"] for cost in shared.values())

    shape = DataShape(
        image_size=images.images.shape[-1],
        text_width=cache.states.tokens.shape[-1],
        pooled_width=cache.states.pooled.shape[-1],
        concept_width=cache.states.concept.shape[-1],
    )
    torch.manual_seed(seed)
    method = method_class(config, shape, frozen)
    cost = count_cost(method, images, cache, seed=seed)
    total_steps = steps_within(
        params.budget.train_flops,
        shared_flops=shared_flops + cost.precompute_flops,
        step_flops=cost.step_flops,
        name=name,
    )
    settings = {
        "seed": seed,
        "budget": params.budget.model_dump(),
        "training": params.training.model_dump(),
        "method": config.model_dump(),
        "total_steps": total_steps,
        "step_flops": cost.step_flops,
    }
    tags = {"salon.method": name, "salon.family": type(method).__name__.lower()}
    inputs = [paths.text_states, paths.codec(config.codec)]
    with training_run(
        params, paths, name=name, stage="train", settings=settings, inputs=inputs, tags=tags
    ) as (run, resume):
        if run:
            print(
                f"{name}: {total_steps} steps of {cost.step_flops / 1e9:.2f} GFLOP within "
                f"{params.budget.train_flops:.3g} FLOPs, {shared_flops:.3g} of them shared"
            )
        preview = cache.states[cache.indices(val.captions[:GRID_IMAGES])]
        grids = SampleGrids(preview, run, total_steps=total_steps, grids=params.training.grids, seed=seed)
        trained = train(
            method,
            MethodBatches(method, images, cache, seed=seed),
            optimization=Optimization.from_config(config),
            total_steps=total_steps,
            cost=cost,
            seed=seed,
            settings=params.training,
            resume=resume,
            held_out=MethodBatches(method, val, cache, seed=seed),
            run=run,
            callbacks=[grids],
        )
        if run is None:
            return
        own = trained.cost
        minutes = own.train_minutes + sum(cost["train_minutes"] for cost in shared.values())
        ledger = {
            "run_id": run.id,
            "own": asdict(own),
            "shared": shared,
            "train_flops": own.train_flops + shared_flops,
            "train_minutes": round(minutes, 3),
            "parameters": own.parameters,
        }
        figures = {f"cost/{key}": value for key, value in ledger.items() if isinstance(value, int | float)}
        run.log_metrics(figures, step=total_steps)
        with whole_folder(paths.method(name)) as folder:
            trained.task.save_pretrained(folder)
            write_json(folder / LEDGER, ledger)
    print(f"{name}: trained in {own.train_minutes:.1f} minutes; weights in {paths.method(name)}")

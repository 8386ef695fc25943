"""Train one method within its budget; killed and started again, it goes on."""

import torch

from salon.data.dataset import Dataset
from salon.files import whole_folder, write_json
from salon.methods.base import DataShape, FrozenNets, read_config
from salon.params import Params
from salon.paths import Paths
from salon.towers.states import TextStateCache
from salon.training.cost import LEDGER, shared_costs, steps_within, whole_cost
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

    torch.manual_seed(seed)
    method = method_class(config, DataShape.of(images.images, cache.states), frozen)
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
        ledger = {"run_id": run.id, **whole_cost(own, shared)}
        figures = {f"cost/{key}": value for key, value in ledger.items() if isinstance(value, int | float)}
        run.log_metrics(figures, step=total_steps)
        with whole_folder(paths.method(name)) as folder:
            trained.task.save_pretrained(folder)
            write_json(folder / LEDGER, ledger)
    print(f"{name}: trained in {own.train_minutes:.1f} minutes; weights in {paths.method(name)}")

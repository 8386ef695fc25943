"""Train one method within its budget; killed and started again, it goes on."""

import shutil
from dataclasses import asdict
from functools import partial

import torch

from salon.data.dataset import load_split
from salon.devices import resolve_precision, single_device
from salon.files import read_json, write_json
from salon.methods.base import DataShape, FrozenNets, read_config
from salon.params import Params
from salon.paths import Paths
from salon.towers.states import TextStateCache
from salon.tracking import runs
from salon.tracking.parent_run import pipeline_tags
from salon.training.budget import steps_within
from salon.training.resume import resume_folder
from salon.training.trainer import GRID_PICTURES, count_cost, is_main_process, train

LEDGER = "training.json"


def run(params: Params, paths: Paths, name: str) -> None:
    """Write `models/methods/<name>/` and an MLflow run.

    Raises:
        SalonError: bad settings, missing inputs, or a budget that leaves no step.
    """
    raw = params.method(name)
    method_class, config = read_config(name, raw)
    train_split = load_split(paths.interim, "train")
    val = load_split(paths.interim, "val")
    cache = TextStateCache.load(paths.text_states)
    frozen = FrozenNets.load(codec=paths.codec(config.codec), clip=paths.clip)
    shared = shared_costs(paths, config.codec)
    shared_flops = sum(cost["train_flops"] for cost in shared.values())

    torch.manual_seed(params.training_seed)
    shape = DataShape(
        image_size=train_split.images.shape[-1],
        text_width=cache.states.tokens.shape[-1],
        pooled_width=cache.states.pooled.shape[-1],
        concept_width=cache.states.concept.shape[-1],
    )
    method = method_class(config, shape, frozen)
    cost = count_cost(method, train_split, cache, seed=params.training_seed)
    total_steps = steps_within(
        params.budget.train_flops,
        shared_flops=shared_flops + cost.precompute_flops,
        step_flops=cost.step_flops,
        name=name,
    )
    resume = resume_folder(
        paths,
        name,
        settings=[
            params.training_seed,
            params.budget.model_dump(),
            params.training.model_dump(),
            # another device draws other noise, another precision rounds otherwise
            single_device(params.training).type,
            resolve_precision(params.training.precision, accelerator=params.training.accelerator),
            raw,
        ],
        inputs=[paths.validation, paths.text_states, paths.codec(config.codec)],
    )
    preview_captions = val.captions[:GRID_PICTURES]
    train_it = partial(
        train,
        method,
        train_split,
        cache,
        preview=cache.states[cache.indices(preview_captions)],
        total_steps=total_steps,
        cost=cost,
        seed=params.training_seed,
        settings=params.training,
        resume=resume,
    )
    if not is_main_process():
        train_it(store=None, run_id=None)
        return
    store = runs.open_store(params, paths)
    run_id = runs.find_or_start_run(
        store,
        name=name,
        stage="train",
        run_id=resume.run_id,
        tags={
            "salon.method": name,
            "salon.family": type(method).__name__.lower(),
            **pipeline_tags(store, params, paths),
        },
    )
    resume.remember_run(run_id)
    runs.log_params(
        store,
        run_id,
        runs.flatten(
            {
                "seed": params.training_seed,
                "budget": params.budget.model_dump(),
                "training": params.training.model_dump(),
                "method": config.model_dump(),
                "total_steps": total_steps,
                "step_flops": cost.step_flops,
            }
        ),
    )
    runs.log_dataset(store, run_id, paths)
    print(
        f"{name}: {total_steps} steps of {cost.step_flops / 1e9:.2f} GFLOP within "
        f"{params.budget.train_flops:.3g} FLOPs, {shared_flops:.3g} of them shared"
    )
    try:
        trained, own = train_it(store=store, run_id=run_id)
    except BaseException:
        runs.finish_run(store, run_id, "FAILED")
        raise
    ledger = {
        "run_id": run_id,
        "own": asdict(own),
        "shared": shared,
        "train_flops": own.train_flops + shared_flops,
        "train_minutes": round(own.train_minutes + sum(cost["train_minutes"] for cost in shared.values()), 3),
        "parameters": own.parameters,
    }
    runs.log_metrics(
        store,
        run_id,
        {f"cost/{key}": value for key, value in ledger.items() if isinstance(value, int | float)},
        step=total_steps,
    )
    folder = paths.method(name)
    temporary = folder.with_name(f".{name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    trained.save_pretrained(temporary)
    write_json(temporary / LEDGER, ledger)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    runs.finish_run(store, run_id, "FINISHED")
    resume.discard()
    print(f"{name}: trained in {own.train_minutes:.1f} minutes; weights in {folder}")


def shared_costs(paths: Paths, codec: str) -> dict[str, dict[str, float]]:
    """What the stages before a method cost: the towers, and the codec with all that it started from."""
    costs = {"clip": read_json(paths.clip_metrics)["cost"]}
    ledger = paths.codec(codec) / LEDGER
    if ledger.is_file():  # `pixels` is not trained
        costs |= read_json(ledger)["shared"] | {f"codec-{codec}": read_json(ledger)["own"]}
    return costs

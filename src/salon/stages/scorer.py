"""Train the independent judges on real images, and refuse them when they cannot judge."""

from collections.abc import Callable, Mapping
from functools import partial

import torch

from salon.data.batches import BatchSource
from salon.data.dataset import Dataset
from salon.errors import GateError
from salon.files import whole_folder, write_json
from salon.judging.alignment import CAPTION
from salon.judging.classifier import AttributeScorer, accuracy, is_for_training, select
from salon.judging.regressor import FactorRegressor, standardise
from salon.judging.retriever import Retriever, retrieval_accuracy
from salon.judging.training_pool import DescribedBatches, FactorBatches, LabelledBatches
from salon.nn.trainable import Trainable
from salon.params import Params
from salon.params.training import RegressorParams, RetrieverParams, ScorerParams
from salon.paths import Paths
from salon.training.module import Optimization
from salon.training.run import training_run
from salon.training.trainer import StepCost, Trained, small_network, train


def run(params: Params, paths: Paths) -> None:
    """Write `models/scorer/`, `models/retriever/`, `models/regressor/` and `reports/metrics/scorer.json`.

    Raises:
        GateError: an attribute is recognised in less than `scorer.min_accuracy` of held-out real images.
    """
    settings, seed = params.scorer, params.scorer.seed
    splits = Dataset(paths.interim)
    known = [is_for_training(row_id) for row_id in splits.ids("novel")]
    shown = splits["train"], select(splits["novel"], known)
    held_out = {"test": splits["test"], "novel": select(splits["novel"], [not each for each in known])}
    held_out = {split: data for split, data in held_out.items() if len(data)}

    learn = partial(_learn, params=params, paths=paths)
    torch.manual_seed(seed)
    retriever = Retriever(width=settings.retriever.width)
    described = partial(DescribedBatches, batch_size=settings.retriever.batch_size, seed=seed)
    trained = [learn("retriever", retriever, described(*shown), described(splits["val"]), settings.retriever)]
    found = {split: retrieval_accuracy(retriever, data, seed=seed) for split, data in held_out.items()}
    scorer = None
    if splits.has_attributes:
        torch.manual_seed(seed)
        rows = [row for part in shown for row in part.attributes]
        labels = {name: sorted({row[name] for row in rows}) for name in rows[0]}
        scorer = AttributeScorer(labels, width=settings.width, cells=settings.cells)
        labelled = partial(LabelledBatches, scorer, batch_size=settings.batch_size, seed=seed)
        trained.append(learn("scorer", scorer, labelled(*shown), labelled(splits["val"]), settings))
        judged = {
            split: accuracy(scorer.judge(data.images), data.attributes) for split, data in held_out.items()
        }
    else:  # a caption is right or wrong as a whole
        judged = {split: {CAPTION: share, "all": share} for split, share in found.items()}
    regressor = _read_factors(splits, settings, learn)
    explained = regressor.explained if regressor else {}
    metrics = {
        "held_out_accuracy": judged,
        "held_out_r_precision": found,
        "held_out_pictures": {split: len(data) for split, data in held_out.items()},
        "explained": {name: round(share, 4) for name, share in explained.items()},
        "loss": round(trained[-1].loss, 4),
        "cost": {
            "train_minutes": round(sum(each.cost.train_minutes for each in trained), 3),
            "parameters": sum(each.cost.parameters for each in trained),
        },
    }
    write_json(paths.scorer_metrics, metrics)
    if scorer:
        _gate(judged, settings)
    for judge, place in (
        (scorer, paths.scorer),
        (retriever, paths.retriever),
        (regressor, paths.regressor),
    ):
        with whole_folder(place) as folder:
            if judge:
                judge.save_pretrained(folder)
    print(f"scorer: held-out accuracy {judged}, R-precision {found}")


def _read_factors(
    splits: Dataset, settings: ScorerParams, learn: Callable[..., Trained[Trainable]]
) -> FactorRegressor | None:
    """The regressor of what varies, with what it explains of `val`; `None` where nothing says it."""
    drawn = splits.factors("train")
    if drawn.empty:
        return None
    torch.manual_seed(settings.seed)
    names = [str(name) for name in drawn if drawn[name].std() > 0]
    regressor = FactorRegressor(dict.fromkeys(names, 0.0), width=settings.regressor.width)
    batches = partial(FactorBatches, batch_size=settings.regressor.batch_size, seed=settings.seed)
    train_rows, val_rows = (
        batches(splits[split].images, standardise(splits.factors(split), drawn, names))
        for split in ("train", "val")
    )
    learn("regressor", regressor, train_rows, val_rows, settings.regressor)
    regressor.explained.update(regressor.eval().measure(val_rows.images, val_rows.factors))
    return regressor


def _learn(
    name: str,
    judge: Trainable,
    source: BatchSource,
    held_out: BatchSource,
    own: RegressorParams | RetrieverParams | ScorerParams,
    *,
    params: Params,
    paths: Paths,
) -> Trained[Trainable]:
    settings = {"seed": source.seed, "scorer": params.scorer.model_dump()}
    with training_run(params, paths, name=name, stage="scorer", settings=settings) as (run, resume):
        return train(
            judge,
            source,
            optimization=Optimization(lr=own.lr),
            total_steps=own.max_steps,
            cost=StepCost(0),  # judges are on nobody's bill
            seed=source.seed,
            settings=small_network(params.training),
            resume=resume,
            held_out=held_out,
            run=run,
        )


def _gate(judged: Mapping[str, Mapping[str, float]], settings: ScorerParams) -> None:
    weak = [
        f"{name} {value:.1%} on {split}"
        for split, values in judged.items()
        for name, value in values.items()
        if name != "all" and value < settings.min_accuracy
    ]
    if weak:
        raise GateError(
            f"the scorer is right in less than scorer.min_accuracy = {settings.min_accuracy:.1%} of held-out "
            f"real pictures: {', '.join(weak)}. Raise scorer.max_steps or scorer.width, or drop values that "
            "cannot be told apart"
        )

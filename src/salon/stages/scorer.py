"""Train the independent scorer on real pictures, and refuse it when it cannot judge."""

import shutil

import torch

from salon.data.loader import batch_indices, load_split, to_float
from salon.errors import GateError, SalonError
from salon.jsonfile import write_json
from salon.judging.scorer import AttributeScorer, accuracy, is_for_training, roughen, select
from salon.params import Params
from salon.paths import Paths
from salon.training.fit import fit


def run(params: Params, paths: Paths) -> None:
    """Write `models/scorer/` and `reports/metrics/scorer.json`.

    Raises:
        SalonError: the data have no attributes to judge.
        GateError: an attribute is recognised in less than `scorer.min_accuracy` of held-out real pictures.
    """
    settings = params.scorer
    train, test, novel = (load_split(paths.interim, split) for split in ("train", "test", "novel"))
    if not train.attributes[0]:
        raise SalonError("the rows carry no attributes, so that there is nothing for the scorer to judge")
    known = [is_for_training(row_id) for row_id in novel.ids]
    seen, unseen = select(novel, known), select(novel, [not k for k in known])
    images = torch.cat([train.images, seen.images])
    attributes = train.attributes + seen.attributes

    torch.manual_seed(settings.seed)
    names = list(train.attributes[0])
    scorer = AttributeScorer(
        {name: sorted({row[name] for row in attributes}) for name in names}, width=settings.width
    )
    targets = scorer.targets(attributes)
    # novel combinations are rare among all pictures: shown as often as half a batch in eight
    share = max(1, settings.batch_size // 8)

    def loss(module: AttributeScorer, step: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        rows = torch.cat(
            [
                batch_indices(
                    step, size=len(train), batch_size=settings.batch_size - share, seed=settings.seed
                ),
                len(train) + batch_indices(step, size=len(seen), batch_size=share, seed=settings.seed),
            ]
        )
        batch = roughen(to_float(images[rows]), generator)
        return module.loss(batch, {name: value[rows] for name, value in targets.items()})

    report = fit(scorer, loss, name="scorer", total_steps=settings.max_steps, lr=settings.lr)
    held_out = {
        "test": accuracy(scorer.judge(test.images), test.attributes),
        "novel": accuracy(scorer.judge(unseen.images), unseen.attributes),
    }
    metrics = {
        "held_out_accuracy": held_out,
        "held_out_pictures": {"test": len(test), "novel": len(unseen)},
        "loss": round(report.loss, 4),
        "cost": {
            "train_minutes": round(report.minutes, 3),
            "parameters": sum(p.numel() for p in scorer.parameters()),
        },
    }
    write_json(paths.scorer_metrics, metrics)
    weak = [
        f"{name} {value:.1%} on {split}"
        for split, values in held_out.items()
        for name, value in values.items()
        if name != "all" and value < settings.min_accuracy
    ]
    if weak:
        raise GateError(
            f"the scorer is right in less than scorer.min_accuracy = {settings.min_accuracy:.1%} of held-out "
            f"real pictures: {', '.join(weak)}. Raise scorer.max_steps or scorer.width, or drop values that "
            "cannot be told apart"
        )
    shutil.rmtree(paths.scorer, ignore_errors=True)
    scorer.save_pretrained(paths.scorer)
    print(f"scorer: held-out accuracy {held_out}")

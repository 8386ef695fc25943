"""Train the independent scorers on real pictures, and refuse them when they cannot judge."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from salon.data.dataset import CaptionedImages, load_split
from salon.devices import single_device
from salon.errors import GateError
from salon.files import write_json
from salon.images import to_float
from salon.judging.alignment import CAPTION
from salon.judging.classifier import AttributeScorer, accuracy, degrade, is_for_training, select
from salon.judging.retriever import Retriever, describe, draw_candidates
from salon.params import Params, ScorerParams
from salon.paths import Paths
from salon.training.batches import batch_indices
from salon.training.fit import CPU, FitReport, fit


def run(params: Params, paths: Paths) -> None:
    """Write `models/scorer/`, `models/retriever/` and `reports/metrics/scorer.json`.

    Raises:
        GateError: an attribute is recognised in less than `scorer.min_accuracy` of held-out real pictures.
    """
    settings = params.scorer
    train, test, novel = (load_split(paths.interim, split) for split in ("train", "test", "novel"))
    known = [is_for_training(row_id) for row_id in novel.ids]
    lessons = TrainingPool(train, select(novel, known))
    held_out = {"test": test, "novel": select(novel, [not k for k in known])}
    held_out = {split: data for split, data in held_out.items() if len(data)}

    device = single_device(params.training)
    retriever, report = train_retriever(lessons, settings, device=device)
    reports = [report]
    found = {split: retrieve(retriever, data, seed=settings.seed) for split, data in held_out.items()}
    networks: list[torch.nn.Module] = [retriever]
    scorer = None
    if train.attributes[0]:
        scorer, report = train_scorer(lessons, settings, device=device)
        reports.append(report)
        networks.append(scorer)
        judged = {
            split: accuracy(scorer.judge(data.images), data.attributes) for split, data in held_out.items()
        }
    else:  # a caption is right or wrong as a whole
        judged = {split: {CAPTION: share, "all": share} for split, share in found.items()}
    metrics = {
        "held_out_accuracy": judged,
        "held_out_r_precision": found,
        "held_out_pictures": {split: len(data) for split, data in held_out.items()},
        "loss": round(report.loss, 4),
        "cost": {
            "train_minutes": round(sum(each.minutes for each in reports), 3),
            "parameters": sum(p.numel() for network in networks for p in network.parameters()),
        },
    }
    write_json(paths.scorer_metrics, metrics)
    if scorer:
        _gate(judged, settings)
    for folder in (paths.scorer, paths.retriever):
        shutil.rmtree(folder, ignore_errors=True)
    paths.scorer.mkdir(parents=True)
    if scorer:
        scorer.save_pretrained(paths.scorer)
    retriever.save_pretrained(paths.retriever)
    print(f"scorer: held-out accuracy {judged}, R-precision {found}")


@dataclass(frozen=True)
class TrainingPool:
    """Real pictures in two parts: novel combinations are rare, and shown as often as an eighth of a batch.

    Pictures without attributes have none.
    """

    usual: CaptionedImages
    novel: CaptionedImages

    @property
    def parts(self) -> Sequence[CaptionedImages]:
        return self.usual, self.novel

    def draw(self, step: int, *, batch_size: int, seed: int) -> torch.Tensor:
        """Rows of the `step`-th batch; novel ones are numbered after the usual ones."""
        share = max(1, batch_size // 8) if len(self.novel) else 0
        usual = batch_indices(step, size=len(self.usual), batch_size=batch_size - share, seed=seed)
        if not share:
            return usual
        novel = batch_indices(step, size=len(self.novel), batch_size=share, seed=seed)
        return torch.cat([usual, len(self.usual) + novel])


def train_scorer(
    lessons: TrainingPool, settings: ScorerParams, *, device: torch.device = CPU
) -> tuple[AttributeScorer, FitReport]:
    """The judge of attributes."""
    attributes = [row for part in lessons.parts for row in part.attributes]
    images = torch.cat([part.images for part in lessons.parts])
    torch.manual_seed(settings.seed)
    names = list(attributes[0])
    scorer = AttributeScorer(
        {name: sorted({row[name] for row in attributes}) for name in names},
        width=settings.width,
        cells=settings.cells,
    )
    targets = scorer.targets(attributes)

    def loss(module: AttributeScorer, step: int) -> torch.Tensor:
        generator = torch.Generator(device).manual_seed(settings.seed * 1_000_003 + step)
        rows = lessons.draw(step, batch_size=settings.batch_size, seed=settings.seed)
        batch = degrade(to_float(images[rows].to(device)), generator)
        return module.loss(batch, {name: value[rows].to(device) for name, value in targets.items()})

    report = fit(scorer, loss, name="scorer", total_steps=settings.max_steps, lr=settings.lr, device=device)
    return scorer, report


def train_retriever(
    lessons: TrainingPool, settings: ScorerParams, *, device: torch.device = CPU
) -> tuple[Retriever, FitReport]:
    """The judge of captions."""
    own = settings.retriever
    captions = [caption for part in lessons.parts for caption in part.captions]
    images = torch.cat([part.images for part in lessons.parts])
    descriptions = [description for part in lessons.parts for description in describe(part)]
    number = {description: i for i, description in enumerate(dict.fromkeys(descriptions))}
    kinds = torch.tensor([number[description] for description in descriptions])
    torch.manual_seed(settings.seed)
    retriever = Retriever(width=own.width)

    def loss(module: Retriever, step: int) -> torch.Tensor:
        generator = torch.Generator(device).manual_seed(settings.seed * 1_000_003 + step)
        rows = lessons.draw(step, batch_size=own.batch_size, seed=settings.seed)
        batch = degrade(to_float(images[rows].to(device)), generator)
        same = kinds[rows][:, None] == kinds[rows]
        return module.loss(batch, [captions[row] for row in rows.tolist()], same)

    report = fit(retriever, loss, name="retriever", total_steps=own.max_steps, lr=own.lr, device=device)
    return retriever, report


def retrieve(retriever: Retriever, data: CaptionedImages, *, seed: int) -> float:
    """Share of real pictures that find their own caption."""
    candidates = draw_candidates(describe(data), seed=seed)
    chosen = retriever.choose(data.images, data.captions, candidates)
    return sum(data.captions[row] == own for row, own in zip(chosen, data.captions, strict=True)) / len(data)


def _gate(judged: dict[str, dict[str, float]], settings: ScorerParams) -> None:
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

"""The jury: all witnesses set up once, the same for methods and sentinels.

Real pictures play three parts that never overlap: training pictures (what may have been copied), those of the
prompts of `test` (never shown to a method; the `real` sentinel), and all other held-out pictures of known
combinations (the reference of fidelity and the null of memorisation), each once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from salon.data.dataset import CaptionedImages, Dataset
from salon.data.ingest.worlds.phrasings import phrasing_of
from salon.judging.alignment import CAPTION, Judged, alignment, labels_of
from salon.judging.classifier import AttributeScorer
from salon.judging.features import FeatureExtractor
from salon.judging.fidelity import Fidelity, fidelity, within_prompt_diversity
from salon.judging.memorisation import Memorisation
from salon.judging.metrics import METRICS
from salon.judging.record import Alignment, Cost, Judgement, SplitFigures
from salon.judging.reference import Reference
from salon.judging.retriever import Retriever, describe, draw_candidates
from salon.judging.statistics import Clusters, Estimate, bootstrap_mean
from salon.params import EvaluateParams
from salon.paths import Paths

DIVERSITY_PROMPTS = 50
DIVERSITY_PICTURES = 4  # of each such prompt, the judged one included

Draw = Callable[[str, CaptionedImages, int], UInt8[Tensor, "n 3 h w"]]
"""One image per prompt of the split, the further ones numbered from 1."""


class Jury:
    """Scorers of attributes and of captions, features of the reference, and the copy test.

    Where rows carry no attributes, the caption is the one attribute that a picture can show, and it does when
    the retriever picks it among others.
    """

    def __init__(
        self,
        data: Dataset,
        paths: Paths,
        settings: EvaluateParams,
        *,
        device: torch.device | str = "cpu",
        over_drawings: bool = True,
    ) -> None:
        """Read the scorers and the real pictures of a workspace.

        Args:
            over_drawings: Whether intervals say what other drawings and pairs would have given; else they
                speak of other prompts for the same ones, enough to see whether a metric is broken.

        Raises:
            SalonError: something is missing, or too few pictures are held out beside the prompts.
        """
        self.data, self.settings, self._over_drawings = data, settings, over_drawings
        self._scorer = (
            AttributeScorer.from_pretrained(paths.scorer).to(device) if data.has_attributes else None
        )
        self._retriever = Retriever.from_pretrained(paths.retriever).to(device)
        self.extractor = FeatureExtractor().to(device)
        self.reference = Reference.open(paths, settings, data=data, extractor=self.extractor)

    def judge(self, prompts: CaptionedImages, images: UInt8[Tensor, "n 3 h w"]) -> list[Judged]:
        """What the scorers see in the picture of each prompt."""
        candidates = draw_candidates(describe(prompts), seed=self.settings.seed)
        rows = self._retriever.choose(images, prompts.captions, candidates)
        retrieved = [prompts.captions[row] for row in rows]
        if self._scorer:
            wanted, seen = prompts.attributes, self._scorer.judge(images)
        else:
            wanted, seen = [[{CAPTION: each} for each in column] for column in (prompts.captions, retrieved)]
        texts = prompts.captions, prompts.langs
        phrasings = [
            phrasing_of(caption, lang=lang, attributes=attributes)
            for caption, lang, attributes in zip(*texts, prompts.attributes, strict=True)
        ]
        found = zip(prompts.ids, *texts, wanted, seen, retrieved, phrasings, strict=True)
        return [Judged(*each) for each in found]

    def align(self, judged: Sequence[Judged], split: str) -> Alignment:
        """Share of pictures with each attribute right, and with all of them right."""
        return alignment(judged, clusters=self.clusters(judged, split), **self.bootstrap)

    def clusters(self, judged: Sequence[Judged], split: str) -> Clusters:
        """Which pictures stand or fall together."""
        return labels_of([each.wanted for each in judged], split) if self._over_drawings else None

    @property
    def bootstrap(self) -> dict[str, int]:
        """How every interval is drawn."""
        return {"bootstrap_samples": self.settings.bootstrap_samples, "seed": self.settings.seed}


class JudgedImages:
    """The images of one source for the prompts of one split, and what several metrics read of them, once."""

    def __init__(
        self,
        jury: Jury,
        split: str,
        prompts: CaptionedImages,
        images: UInt8[Tensor, "n 3 h w"],
        further: Sequence[UInt8[Tensor, "p 3 h w"]] = (),
    ) -> None:
        """
        Args:
            images: One image per prompt.
            further: More images of the first prompts, for the diversity within a prompt.
        """
        self.jury, self.split, self.images, self.further = jury, split, images, further
        self.judged = jury.judge(prompts, images)

    @cached_property
    def figures(self) -> SplitFigures:
        """Every metric of the table that is measured on this split."""
        languages: dict[str, list[Judged]] = {}
        phrasings: dict[str, list[Judged]] = {}
        for image in self.judged:
            languages.setdefault(image.lang, []).append(image)
            if image.phrasing:
                phrasings.setdefault(image.phrasing, []).append(image)
        align = partial(self.jury.align, split=self.split)
        return SplitFigures(
            alignment=align(self.judged),
            languages={name: align(images) for name, images in sorted(languages.items())},
            phrasings={name: align(images) for name, images in sorted(phrasings.items())},
            metrics={
                metric.name: metric.measure(self)
                for metric in METRICS.values()
                if metric.measured_on(self.split) and not metric.detailed
            },
        )

    @property
    def r_precision(self) -> Estimate:
        """Share of images that find their own caption among others."""
        found = np.array([image.retrieved == image.caption for image in self.judged])
        settings = self.jury.settings
        rng = np.random.default_rng(settings.seed)
        clusters = self.jury.clusters(self.judged, self.split)
        return bootstrap_mean(found, samples=settings.bootstrap_samples, rng=rng, clusters=clusters)

    @cached_property
    def features(self) -> Float[Tensor, "n d"]:
        return self.jury.extractor.extract(self.images)

    @cached_property
    def fidelity(self) -> Fidelity:
        """Against held-out real images that are no prompts of `test`."""
        return fidelity(self.features, self.jury.reference.features, **self.jury.bootstrap)

    @property
    def diversity(self) -> Estimate:
        """How far the images of one prompt lie apart."""
        first = self.features[: len(self.further[0])]
        several = torch.stack([first, *map(self.jury.extractor.extract, self.further)], dim=1)  # (p, m, d)
        return within_prompt_diversity(several, **self.jury.bootstrap)

    @cached_property
    def memorisation(self) -> Memorisation:
        """The share of copies of training images, and the closest pairs."""
        copies, settings = self.jury.reference.copies, self.jury.settings
        return copies.judge(self.images, bootstrap_samples=settings.bootstrap_samples)

    @property
    def nearest_pairs(self) -> UInt8[Tensor, "n 3 h w"]:
        """The closest pairs as one row of images, above their nearest training images."""
        closest = self.memorisation.closest
        generated = self.images[[pair.generated for pair in closest]]
        training = self.jury.data["train"].images[[pair.training for pair in closest]]
        return torch.cat([generated, training])


def judge_source(
    jury: Jury, prompts: Mapping[str, CaptionedImages], draw: Draw
) -> Iterator[tuple[str, JudgedImages]]:
    """The images of a method or sentinel for the prompts of each split, judged."""
    for split, asked in prompts.items():
        images = draw(split, asked, 0)
        few = asked.take(range(min(DIVERSITY_PROMPTS, len(asked))))
        repeats = range(1, DIVERSITY_PICTURES) if split == "test" else ()
        yield split, JudgedImages(jury, split, asked, images, [draw(split, few, i) for i in repeats])


def record(seen: Mapping[str, JudgedImages], *, cost: Cost | None = None) -> Judgement:
    """What was measured, to be kept."""
    return Judgement(
        splits={split: found.figures for split, found in seen.items()},
        memorisation=seen["test"].memorisation,
        cost=cost,
    )

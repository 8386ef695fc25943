"""The jury: all witnesses set up once, the same for methods and sentinels.

Real pictures play three parts that never overlap: training pictures (what may have been copied), those of the
prompts of `test` (never shown to a method; the `real` sentinel), and all other held-out pictures of known
combinations (the reference of fidelity and the null of memorisation), each once.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from salon.data.dataset import CaptionedImages, Dataset
from salon.data.ingest.worlds.compose import SceneComposer
from salon.judging.alignment import Judged
from salon.judging.alike import Alike, wanted
from salon.judging.diversity import (
    ks_distance,
    spread_ratio,
    thumbnail_distances,
    within_caption_variance,
)
from salon.judging.drawings import DrawingTest
from salon.judging.features import Extractors
from salon.judging.fidelity import Neighbours, kid, neighbours
from salon.judging.memorisation import Channel, CopyTest, Memorisation
from salon.judging.metrics import METRICS
from salon.judging.record import Cost, Judgement, SplitFigures
from salon.judging.reference import Reference
from salon.judging.regressor import FactorRegressor
from salon.judging.scorers import Scorers
from salon.judging.shadows import Pools
from salon.judging.statistics import Clusters, Estimate, bootstrap_mean
from salon.judging.views import SMOOTHED, View
from salon.params import EvaluateParams
from salon.paths import Paths

DIVERSITY_PROMPTS = 100
DIVERSITY_PICTURES = 4  # of each such prompt, the judged one included

Draw = Callable[[str, CaptionedImages, int], UInt8[Tensor, "n 3 h w"]]
"""One image per prompt of the split, the further ones numbered from 1."""


class Jury(Scorers):
    """The scorers, the features of the reference, and the copy test."""

    def __init__(
        self,
        data: Dataset,
        paths: Paths,
        settings: EvaluateParams,
        *,
        device: torch.device | str = "cpu",
        over_drawings: bool = True,
        composer: SceneComposer | None = None,
        channel: Channel | None = None,
    ) -> None:
        """Read the scorers and the real pictures of a workspace.

        Args:
            composer: Who renders the scenes, where pictures are scenes.
            channel: Of the method that is judged; `None` of pictures as they are.

        Raises:
            SalonError: something is missing, or too few pictures are held out beside the prompts.
        """
        super().__init__(data, paths, settings, device=device, over_drawings=over_drawings)
        self._paths, self._channel = paths, channel
        self.composer = composer if data.has_attributes else None  # which say what a scene shows
        self.regressor = (
            FactorRegressor.from_pretrained(paths.regressor).to(device)
            if (paths.regressor / "config.json").is_file()
            else None
        )
        self.alike = Alike(data["train"])
        self.extractors = Extractors(device)
        self.reference = Reference.open(paths, settings, data=data, extractors=self.extractors)

    @cached_property
    def pools(self) -> Pools:
        """Training pictures and what they are compared with; made when somebody asks for copies."""
        return Pools.open(self._paths, self.data, prompts=self.settings.pictures, composer=self.composer)

    def copy_test(self, channel: Channel | None) -> CopyTest:
        """For pictures that left through `channel`."""
        return self.pools.copy_test(self.data, seed=self.settings.seed, channel=channel)

    @cached_property
    def copies(self) -> CopyTest:
        """Of the method that is judged."""
        return self.copy_test(self._channel)

    @cached_property
    def drawings(self) -> DrawingTest | None:
        """Which drawing of training a picture shows, where each shows one."""
        return self.pools.drawing_test(self.data, self.composer) if self.composer else None


@dataclass(frozen=True)
class Several:
    """Several images of each of some captions, and as many real ones."""

    drawn: UInt8[Tensor, "p m 3 h w"]
    real: UInt8[Tensor, "p m 3 h w"]
    clusters: Clusters


class JudgedImages:
    """The images of one source for the prompts of one split, and what several metrics read of them, once."""

    def __init__(
        self,
        jury: Jury,
        split: str,
        prompts: CaptionedImages,
        images: UInt8[Tensor, "n 3 h w"],
        several: "Several | None" = None,
    ) -> None:
        """
        Args:
            images: One image per prompt.
            several: More images of some prompts, for the diversity within a caption.
        """
        self.jury, self.split, self.several = jury, split, several
        self.prompts, self.images, self._features = prompts, images, dict[View, Tensor]()
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
        measured = {
            metric.name: metric.measure(self)
            for metric in METRICS.values()
            if metric.measured_on(self.split) and not metric.detailed
        }
        return SplitFigures(
            alignment=align(self.judged),
            languages={name: align(images) for name, images in sorted(languages.items())},
            phrasings={name: align(images) for name, images in sorted(phrasings.items())},
            factors=self.factors,
            metrics={name: figure for name, figure in measured.items() if figure},
        )

    @property
    def r_precision(self) -> Estimate:
        """Share of images that find their own caption among others."""
        found = np.array([image.retrieved == image.caption for image in self.judged])
        settings = self.jury.settings
        clusters = self.jury.clusters([image.wanted for image in self.judged], self.split)
        rng = np.random.default_rng(settings.seed)
        return bootstrap_mean(found, samples=settings.bootstrap_samples, rng=rng, clusters=clusters)

    def features(self, view: View) -> Float[Tensor, "n d"]:
        """As `view` sees the images, once."""
        if view not in self._features:
            seed = self.jury.settings.seed
            self._features[view] = self.jury.extractors.extract(self.images, view, seed=seed)
        return self._features[view]

    @cached_property
    def drawings(self) -> tuple[Clusters, Clusters]:
        """Which one each image and each of the reference shows; alike where it is the same."""
        shown = [*(image.wanted for image in self.judged), *self.jury.reference.wanted]
        labels = self.jury.clusters(shown, self.split)
        return (None, None) if labels is None else (labels[: len(self.judged)], labels[len(self.judged) :])

    def distance(self, view: View) -> Estimate:
        """KID from held-out real images that are no prompts of `test`, as a share of that of blends of two.

        0 is as real ones; the uncertainty of the blends' own distance is left out.
        """
        reference, (of_images, of_real) = self.jury.reference, self.drawings
        found = kid(
            self.features(view),
            reference.features[view],
            drawings=None if of_images is None or of_real is None else (of_images, of_real),
            bootstrap_samples=self.jury.settings.bootstrap_samples,
            rng=np.random.default_rng(self.jury.settings.seed),
        )
        damage = reference.damage[view]
        scaled = {key: getattr(found, key) / damage for key in ("value", "low", "high")}
        return replace(found, **scaled)

    @cached_property
    def neighbours(self) -> Neighbours:
        """What neighbours among held-out real images say, in the smoothed view."""
        return neighbours(
            self.features(SMOOTHED),
            self.jury.reference.features[SMOOTHED],
            drawings=self.drawings,
            **self.jury.bootstrap,
        )

    @property
    def diversity(self) -> Estimate | None:
        """How much the images of one caption vary, of what real ones do; `None` where these are too few."""
        if self.several is None:
            return None
        return spread_ratio(
            thumbnail_distances(self.several.drawn),
            thumbnail_distances(self.several.real),
            clusters=self.several.clusters,
            **self.jury.bootstrap,
        )

    @property
    def factor_diversity(self) -> Estimate | None:
        """The same of what a renderer drew at random, over all factors; `None` where none is known."""
        if self._variances is None or self.several is None:
            return None
        drawn, real = self._variances
        weights = 1 / real.mean(axis=0).clip(min=1e-12)
        return spread_ratio(
            drawn @ weights, real @ weights, clusters=self.several.clusters, **self.jury.bootstrap
        )

    @cached_property
    def _variances(self) -> tuple[Float[np.ndarray, "p f"], Float[np.ndarray, "p f"]] | None:
        regressor = self.jury.regressor
        if regressor is None or self.several is None:
            return None

        def variances(several: UInt8[Tensor, "p m 3 h w"]) -> Float[np.ndarray, "p f"]:
            return within_caption_variance(
                regressor.read(several.flatten(0, 1)).unflatten(0, several.shape[:2])
            )

        return variances(self.several.drawn), variances(self.several.real)

    @property
    def factors(self) -> dict[str, dict[str, Estimate]]:
        """Each factor's spread within a caption, and how far its values lie from those of real images."""
        regressor = self.jury.regressor
        if self._variances is None or self.several is None or regressor is None:
            return {}
        drawn, real = self._variances
        values, of_real = regressor.read(self.images).numpy(), regressor.read(self.prompts.images).numpy()
        bootstrap, clusters = self.jury.bootstrap, self.several.clusters
        return {
            name: {
                "sd": spread_ratio(drawn[:, i], real[:, i], clusters=clusters, **bootstrap),
                "ks": ks_distance(values[:, i], of_real[:, i], **bootstrap),
            }
            for i, name in enumerate(regressor.readable)
        }

    @cached_property
    def memorisation(self) -> Memorisation:
        """The share of copies of training images and of their drawings, and the closest pairs."""
        jury = self.jury
        found = jury.copies.judge(self.images, bootstrap_samples=jury.settings.bootstrap_samples)
        if jury.composer is None or jury.drawings is None:
            return found
        asked = [*map(jury.composer.drawing, self.prompts.attributes)]
        clusters = jury.clusters([each.wanted for each in self.judged], self.split)
        own, another = jury.drawings.judge(self.images, asked, clusters=clusters, **jury.bootstrap)
        return replace(found, shares=replace(found.shares, drawing=own, another_drawing=another))

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
        several = _several(jury, split, asked, images, draw) if split == "test" else None
        yield split, JudgedImages(jury, split, asked, images, several)


def _several(
    jury: Jury, split: str, asked: CaptionedImages, images: UInt8[Tensor, "n 3 h w"], draw: Draw
) -> Several | None:
    """Of the first prompts of which there are as many real images; `None` if there is no such prompt."""
    repeats = range(1, DIVERSITY_PICTURES)
    rows = [row for row in range(len(asked)) if len(jury.alike.rows(asked, row)) >= len(repeats)]
    if not (rows := rows[:DIVERSITY_PROMPTS]):
        return None
    few = asked.take(rows)
    drawn = [images[rows], *(draw(split, few, repeat) for repeat in repeats)]
    real = [few.images, *(jury.alike.further(few, repeat) for repeat in repeats)]
    return Several(torch.stack(drawn, dim=1), torch.stack(real, dim=1), jury.clusters(wanted(few), split))


def record(seen: Mapping[str, JudgedImages], *, cost: Cost | None = None) -> Judgement:
    """What was measured, to be kept."""
    return Judgement(
        splits={split: found.figures for split, found in seen.items()},
        memorisation=seen["test"].jury.copies.figures({key: each.memorisation for key, each in seen.items()}),
        cost=cost,
    )

"""What reads captions off pictures: the scorers of attributes and of captions, the same for every picture."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import UInt8
from torch import Tensor

from salon.data.dataset import CaptionedImages, Dataset
from salon.data.ingest.worlds.phrasings import phrasing_of
from salon.judging.alignment import CAPTION, Judged, alignment, labels_of
from salon.judging.alike import wanted
from salon.judging.classifier import AttributeScorer
from salon.judging.record import Alignment
from salon.judging.retriever import Retriever, describe, draw_candidates
from salon.judging.statistics import Clusters
from salon.params import EvaluateParams
from salon.paths import Paths


class Scorers:
    """Judges of alignment.

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
        """Read the scorers of a workspace.

        Args:
            over_drawings: Whether intervals say what other drawings and pairs would have given; else they
                speak of other prompts for the same ones, enough to see whether a metric is broken.

        Raises:
            SalonError: something is missing.
        """
        self.data, self.settings, self._over_drawings = data, settings, over_drawings
        self._scorer = (
            AttributeScorer.from_pretrained(paths.scorer).to(device) if data.has_attributes else None
        )
        self._retriever = Retriever.from_pretrained(paths.retriever).to(device)

    def judge(self, prompts: CaptionedImages, images: UInt8[Tensor, "n 3 h w"]) -> list[Judged]:
        """What the scorers see in the picture of each prompt."""
        candidates = draw_candidates(describe(prompts), seed=self.settings.seed)
        rows = self._retriever.choose(images, prompts.captions, candidates)
        retrieved = [prompts.captions[row] for row in rows]
        captions = [{CAPTION: caption} for caption in retrieved]
        seen = self._scorer.judge(images) if self._scorer else captions
        texts = prompts.captions, prompts.langs
        phrasings = [
            phrasing_of(caption, lang=lang, attributes=attributes)
            for caption, lang, attributes in zip(*texts, prompts.attributes, strict=True)
        ]
        found = zip(prompts.ids, *texts, wanted(prompts), seen, retrieved, phrasings, strict=True)
        return [Judged(*each) for each in found]

    def align(self, judged: Sequence[Judged], split: str) -> Alignment:
        """Share of pictures with each attribute right, and with all of them right."""
        clusters = self.clusters([each.wanted for each in judged], split)
        return alignment(judged, clusters=clusters, **self.bootstrap)

    def clusters(self, wanted: Sequence[Mapping[str, str]], split: str) -> Clusters:
        """Which pictures stand or fall together, by what is asked for."""
        return labels_of(wanted, split) if self._over_drawings else None

    @property
    def bootstrap(self) -> dict[str, int]:
        """How every interval is drawn."""
        return {"bootstrap_samples": self.settings.bootstrap_samples, "seed": self.settings.seed}

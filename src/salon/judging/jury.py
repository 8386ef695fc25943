"""The jury: all witnesses set up once, the same for methods and sentinels.

Real pictures play three parts that never overlap: training pictures (what may have been copied), those of the
prompts of `test` (never shown to a method; the `real` sentinel), and all other held-out pictures of known
combinations (the reference of fidelity and the null of memorisation), each once.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from salon.data.dataset import CaptionedImages, Dataset
from salon.data.ingest.worlds.phrasings import phrasing_of
from salon.judging.alignment import CAPTION, Judged, alignment
from salon.judging.classifier import AttributeScorer
from salon.judging.features import FeatureExtractor
from salon.judging.fidelity import fidelity, kid, within_prompt_diversity
from salon.judging.memorisation import Memorisation
from salon.judging.reference import Reference
from salon.judging.retriever import Retriever, describe, draw_candidates
from salon.judging.statistics import bootstrap_mean
from salon.params import EvaluateParams
from salon.paths import Paths

DIVERSITY_PROMPTS = 50
DIVERSITY_PICTURES = 4  # of each such prompt, the judged one included


class Jury:
    """Scorers of attributes and of captions, features of the reference, and the copy test.

    Where rows carry no attributes, the caption is the one attribute that a picture can show, and it does when
    the retriever picks it among others.
    """

    def __init__(
        self,
        scorer: AttributeScorer | None,
        retriever: Retriever,
        *,
        data: Dataset,
        paths: Paths,
        settings: EvaluateParams,
        device: torch.device | str = "cpu",
    ) -> None:
        """
        Raises:
            SalonError: too few pictures are held out beside the prompts.
        """
        self._data = data
        self._settings = settings
        self._scorer = scorer.to(device) if scorer else None
        self._retriever = retriever.to(device)
        self._eye = FeatureExtractor().to(device)
        self._bench = Reference.open(paths, settings, data=data, eye=self._eye)

    @classmethod
    def open(
        cls, paths: Paths, settings: EvaluateParams, *, data: Dataset, device: torch.device | str = "cpu"
    ) -> "Jury":
        """Read the scorers and the real pictures of a workspace.

        Raises:
            SalonError: something is missing, or too few pictures are held out beside the prompts.
        """
        return cls(
            AttributeScorer.from_pretrained(paths.scorer) if data.has_attributes else None,
            Retriever.from_pretrained(paths.retriever),
            data=data,
            paths=paths,
            settings=settings,
            device=device,
        )

    @property
    def training(self) -> CaptionedImages:
        """The training pictures, decoded when somebody asks."""
        return self._data["train"]

    @property
    def knows_attributes(self) -> bool:
        """Whether pictures are judged attribute by attribute."""
        return self._scorer is not None

    def look(self, prompts: CaptionedImages, images: UInt8[Tensor, "n 3 h w"]) -> list[Judged]:
        """What the scorers see in the picture of each prompt."""
        candidates = draw_candidates(describe(prompts), seed=self._settings.seed)
        rows = self._retriever.choose(images, prompts.captions, candidates)
        retrieved = [prompts.captions[row] for row in rows]
        if self._scorer:
            wanted, seen = prompts.attributes, self._scorer.judge(images)
        else:
            wanted, seen = [[{CAPTION: each} for each in texts] for texts in (prompts.captions, retrieved)]
        phrasings = [
            phrasing_of(caption, lang=lang, attributes=attributes)
            for caption, lang, attributes in zip(
                prompts.captions, prompts.langs, prompts.attributes, strict=True
            )
        ]
        return [
            Judged(*judged)
            for judged in zip(
                prompts.ids, prompts.captions, prompts.langs, wanted, seen, retrieved, phrasings, strict=True
            )
        ]

    def alignment(self, judged: Sequence[Judged]) -> dict[str, Any]:
        """`alignment`, `alignment_<lang>` for each language, `r_precision`; `phrasing` where it is known."""
        figures: dict[str, Any] = {
            "alignment": self._align(judged),
            "r_precision": self._r_precision(judged),
            **{
                f"alignment_{lang}": self._align([picture for picture in judged if picture.lang == lang])
                for lang in sorted({picture.lang for picture in judged})
            },
        }
        phrasings = sorted({picture.phrasing for picture in judged if picture.phrasing})
        if phrasings:
            figures["phrasing"] = {
                phrasing: self._align([picture for picture in judged if picture.phrasing == phrasing])
                for phrasing in phrasings
            }
        return figures

    def fidelity(
        self, images: UInt8[Tensor, "n 3 h w"], further: Sequence[UInt8[Tensor, "p 3 h w"]] = ()
    ) -> dict[str, Any]:
        """`kid`, `precision`, `recall`, `density`, `coverage`, and `diversity` within a prompt.

        Args:
            images: One picture per prompt.
            further: More pictures of the first `DIVERSITY_PROMPTS` prompts; without them no `diversity`.
        """
        options = {"bootstrap_samples": self._settings.bootstrap_samples, "seed": self._settings.seed}
        features = self._eye.extract(images)
        figures: dict[str, Any] = fidelity(features, self._bench.reference, **options).to_json()
        if further:
            several = torch.stack(
                [features[: len(further[0])], *(self._eye.extract(more) for more in further)], dim=1
            )  # (p, m, d)
            figures["diversity"] = within_prompt_diversity(several, **options).to_json()
        return figures

    def likeness(self, images: UInt8[Tensor, "n 3 h w"]) -> dict[str, Any]:
        """`kid` alone, for a choice by `val`.

        The reference holds the real pictures of these prompts, too, alike for every method: it compares
        methods, and is not to be compared with `kid` on `test`.
        """
        return {
            "kid": kid(
                self._eye.extract(images),
                self._bench.reference,
                bootstrap_samples=self._settings.bootstrap_samples,
                rng=np.random.default_rng(self._settings.seed),
            ).to_json()
        }

    def memorisation(self, images: UInt8[Tensor, "n 3 h w"]) -> Memorisation:
        """The share of copies of training pictures, and the closest pairs."""
        return self._bench.copies.judge(images, bootstrap_samples=self._settings.bootstrap_samples)

    def pair_up(self, images: UInt8[Tensor, "n 3 h w"], found: Memorisation) -> UInt8[Tensor, "n 3 h w"]:
        """The closest pairs as one row of pictures, above their nearest training pictures."""
        generated = images[[pair.generated for pair in found.closest]]
        return torch.cat([generated, self.training.images[[pair.training for pair in found.closest]]])

    def _r_precision(self, judged: Sequence[Judged]) -> dict[str, float | int]:
        found = np.array([picture.retrieved == picture.caption for picture in judged])
        rng = np.random.default_rng(self._settings.seed)
        return bootstrap_mean(found, samples=self._settings.bootstrap_samples, rng=rng).to_json()

    def _align(self, judged: Sequence[Judged]) -> dict[str, Any]:
        estimates = alignment(
            judged, bootstrap_samples=self._settings.bootstrap_samples, seed=self._settings.seed
        )
        return {name: estimate.to_json() for name, estimate in estimates.items()}

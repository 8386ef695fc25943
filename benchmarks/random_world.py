"""Methods, pictures and captions of the default world's shapes, all random: timing needs no training."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from salon.codecs import PixelCodec, read_codec_config
from salon.codecs.base import Codec
from salon.codecs.vqvae import VqVae
from salon.data.dataset import CaptionedImages
from salon.methods.base import DataShape, FrozenNets, Method, read_config
from salon.params import Params, load_params
from salon.towers.states import TextStateCache, TextStates
from salon.towers.tokenizer import train_tokenizer
from salon.towers.tower import build_towers

REPOSITORY = Path(__file__).parents[1]
PICTURES = 512
CAPTIONS = 64
CAPTION_TOKENS = 16
CONCEPT_WIDTH = 27  # `TextStates.concept` in the default world (salon.towers.cca)


@dataclass(frozen=True)
class World:
    """A training set of noise, and the settings of params.yaml."""

    params: Params
    data: CaptionedImages
    cache: TextStateCache

    @classmethod
    def draw(cls, params: Params | None = None, *, seed: int = 0) -> "World":
        """Random pictures with random captions."""
        params = params or load_params(REPOSITORY / "params.yaml")
        generator = torch.Generator().manual_seed(seed)
        side = getattr(params.ingest, params.ingest.source).image_size
        captions = [f"caption {i}" for i in range(CAPTIONS)]
        states = TextStates(
            tokens=torch.randn(CAPTIONS, CAPTION_TOKENS, params.clip.text_width, generator=generator),
            mask=torch.ones(CAPTIONS, CAPTION_TOKENS, dtype=torch.bool),
            pooled=F.normalize(torch.randn(CAPTIONS, params.clip.projection_dim, generator=generator)),
            concept=torch.randn(CAPTIONS, CONCEPT_WIDTH, generator=generator),
        )
        data = CaptionedImages(
            ids=[str(i) for i in range(PICTURES)],
            images=torch.randint(0, 256, (PICTURES, 3, side, side), generator=generator, dtype=torch.uint8),
            captions=[captions[i % CAPTIONS] for i in range(PICTURES)],
            langs=["en"] * PICTURES,
            attributes=[{}] * PICTURES,
        )
        return cls(params, data, TextStateCache(captions, states))

    @property
    def shape(self) -> DataShape:
        states = self.cache.states
        return DataShape(
            image_size=self.data.images.shape[-1],
            text_width=states.tokens.shape[-1],
            pooled_width=states.pooled.shape[-1],
            concept_width=states.concept.shape[-1],
        )

    def codec(self, name: str) -> Codec:
        """Codec `name` of params.yaml with random weights and the networks of the one that it starts from."""
        if name == "pixels":
            return PixelCodec().eval()
        family, config = read_codec_config(name, self.params.codec(name))
        start = self.codec(config.start)
        if isinstance(start, VqVae):
            config = config.following(start.config)
        return family(config).eval().requires_grad_(False)

    def method(self, name: str, *, codec: Codec | None = None, **settings: object) -> Method:
        """Method `name` of params.yaml with random weights; `settings` over its own."""
        torch.manual_seed(0)
        method_class, config = read_config(name, {**self.params.method(name), **settings})
        tokenizer = train_tokenizer(
            self.cache.captions, vocab_size=self.params.clip.vocab_size, max_tokens=CAPTION_TOKENS
        )
        towers = build_towers(self.params.clip, tokenizer)
        towers.to_concept = nn.Linear(self.params.clip.projection_dim, CONCEPT_WIDTH)
        towers.eval().requires_grad_(False)
        return method_class(config, self.shape, FrozenNets(codec or self.codec(config.codec), towers))

"""What a codec is: a picture becomes a latent and comes back."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn


class Codec(nn.Module, ABC):
    """Image <-> latent. Pictures are float in [-1, 1]; frozen while a method trains on its latents."""

    @abstractmethod
    def latent_shape(self, image_size: int) -> tuple[int, ...]:
        """Shape of one latent of a square picture, without the batch."""

    @abstractmethod
    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Tensor:
        """Latents: float (b, c, h', w') for continuous codecs, integer (b, n) for discrete ones."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Float[Tensor, "b 3 h w"]:
        """Pictures in [-1, 1] (decoders may overshoot a little; the edge to uint8 clamps)."""

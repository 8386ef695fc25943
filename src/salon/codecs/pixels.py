"""The identity codec, for methods that work on pixels."""

from jaxtyping import Float
from torch import Tensor

from salon.codecs.base import Codec


class PixelCodec(Codec):
    """Latents are the pictures themselves."""

    def latent_shape(self, image_size: int) -> tuple[int, ...]:
        return (3, image_size, image_size)

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        return images

    def decode(self, latents: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        return latents

"""The range of classifier-free guidance, the same for every method that has it."""

from salon.errors import SalonError

MAX_GUIDANCE_SCALE = 20.0


def check_guidance(scale: float) -> float:
    """`scale`, if it is in range.

    Raises:
        SalonError: it is not.
    """
    if not 1 <= scale <= MAX_GUIDANCE_SCALE:
        raise SalonError(f"guidance_scale {scale} is out of range: 1 to {MAX_GUIDANCE_SCALE:g}")
    return scale

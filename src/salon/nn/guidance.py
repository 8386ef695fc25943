"""The range of classifier-free guidance, the same for every method that has it."""

from salon.errors import SalonError

MIN_GUIDANCE_SCALE, MAX_GUIDANCE_SCALE = 1.0, 20.0  # 1 is no guidance


def check_guidance(scale: float) -> float:
    """`scale`, if it is in range.

    Raises:
        SalonError: it is not.
    """
    if not MIN_GUIDANCE_SCALE <= scale <= MAX_GUIDANCE_SCALE:
        raise SalonError(
            f"guidance_scale {scale} is out of range: {MIN_GUIDANCE_SCALE:g} to {MAX_GUIDANCE_SCALE:g}"
        )
    return scale

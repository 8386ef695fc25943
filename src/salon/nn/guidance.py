"""Ranges of what a sampler can be asked for, the same for every method and for who asks over HTTP."""

MIN_GUIDANCE_SCALE, MAX_GUIDANCE_SCALE = 1.0, 20.0  # 1 is no guidance
MAX_STEPS = 200  # more has never helped, and a request must end

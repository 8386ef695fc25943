"""The range of classifier-free guidance, the same for every method that has it, and for who asks for it."""

MIN_GUIDANCE_SCALE, MAX_GUIDANCE_SCALE = 1.0, 20.0  # 1 is no guidance

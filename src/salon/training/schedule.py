"""Learning-rate schedule shared by everything that trains."""


def warmup_hold_decay(step: int, *, total_steps: int, warmup_fraction: float, decay_fraction: float) -> float:
    """Factor on the learning rate at `step`: linear up, flat, linear down to zero (Hägele 2024, WSD)."""
    warmup_steps = max(1, round(warmup_fraction * total_steps))
    decay_steps = max(1, round(decay_fraction * total_steps))
    rise = (step + 1) / warmup_steps
    fall = (total_steps - step) / decay_steps
    return max(0.0, min(1.0, rise, fall))

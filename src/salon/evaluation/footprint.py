"""What a picture takes: FLOPs and parameters, counted alike for every method."""

from torch import nn

from salon.methods.base import Method
from salon.seeding import seeded_generators
from salon.towers.states import TextStates
from salon.training.cost import count_forward_flops


def drawing_cost(method: Method, text: TextStates) -> dict[str, int]:
    """FLOPs of drawing one of `text`, parameters of generator and codec, and of what training alone needs.

    From the states of a caption on: the text tower is the same for all methods.
    """
    one = text[:1]
    apart = sum(count_parameters(method.get_submodule(name)) for name in method.training_only)
    return {
        "sample_flops": count_forward_flops(
            lambda: method.sample(one, generator=seeded_generators(0, len(one)))
        ),
        "parameters": count_parameters(method) - apart + count_parameters(method.codec),
        "training_parameters": apart,
    }


def count_parameters(module: nn.Module) -> int:
    """Numbers that training sets."""
    return sum(parameter.numel() for parameter in module.parameters())

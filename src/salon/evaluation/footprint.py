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
    apart = sum(count_parameters(method.get_submodule(name)) for name in method.training_only)
    return {
        "picture_flops": picture_flops(method, text),
        "parameters": count_parameters(method) - apart + count_parameters(method.codec),
        "training_parameters": apart,
    }


def picture_flops(method: Method, text: TextStates) -> int:
    """Counted operations of drawing one of `text`."""
    return count_forward_flops(lambda: method.sample(text[:1], generator=seeded_generators(0, 1)))


def count_parameters(module: nn.Module) -> int:
    """Numbers that training sets."""
    return sum(parameter.numel() for parameter in module.parameters())

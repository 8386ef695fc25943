"""Lets torchvision be imported without its compiled operators, which need not exist for every build of torch.

Its Python files describe two operators that only the compiled part defines, and fail when there is none. The
peers use neither. Import this before anything that imports torchvision.
"""

import torch
from torch.library import Library

OPERATORS = ("nms", "qnms")
library = None

if not hasattr(torch.ops.torchvision, OPERATORS[0]):
    library = Library("torchvision", "FRAGMENT")
    for name in OPERATORS:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

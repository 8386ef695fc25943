"""A kill while a checkpoint is written leaves the one before."""

from pathlib import Path

import pytest
import torch

from salon.training.checkpoints import WholeCheckpoints


class Killed(BaseException):
    """Stands for a kill in the middle of writing."""


class Poison:
    def __reduce__(self) -> tuple[object, ...]:
        raise Killed


def test_an_interrupted_checkpoint_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "run" / "last.ckpt"
    io = WholeCheckpoints()
    io.save_checkpoint({"step": torch.tensor(7)}, path)
    with pytest.raises(Killed):
        io.save_checkpoint({"step": torch.tensor(8), "more": Poison()}, path)
    assert io.load_checkpoint(path, weights_only=True) == {"step": torch.tensor(7)}
    io.save_checkpoint({"step": torch.tensor(9)}, path)
    assert io.load_checkpoint(path, weights_only=True) == {"step": torch.tensor(9)}
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]

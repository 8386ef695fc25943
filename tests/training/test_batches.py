"""Batches are a function of (seed, step) alone, whoever asks and whenever."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from salon.data.batches import ImageBatches, batch_indices
from salon.data.dataset import Dataset
from salon.errors import SalonError
from salon.images import to_float, to_uint8
from salon.training.batches import HeldOut, Steps


@settings(deadline=None)  # the first call is slow on a busy machine
@given(size=st.integers(1, 50), batch_size=st.integers(1, 20), seed=st.integers(0, 9))
def test_an_epoch_shows_every_row_once(size: int, batch_size: int, seed: int) -> None:
    steps = size  # batch_size whole epochs
    rows = torch.cat(
        [batch_indices(step, size=size, batch_size=batch_size, seed=seed) for step in range(steps)]
    )
    for epoch in rows.split(size):
        assert sorted(epoch.tolist()) == list(range(size))


def test_two_epochs_and_two_seeds_differ_in_order() -> None:
    first, second = (batch_indices(step, size=100, batch_size=100, seed=1) for step in (0, 1))
    assert not torch.equal(first, second)
    assert not torch.equal(first, batch_indices(0, size=100, batch_size=100, seed=2))


def test_processes_share_out_the_same_global_batch() -> None:
    whole = batch_indices(3, size=40, batch_size=8, seed=1)
    source = ImageBatches(torch.zeros(40, 3, 8, 8, dtype=torch.uint8), batch_size=8, seed=1)
    parts = [list(Steps(source, 4, rank=rank, world_size=4))[3][1] for rank in range(4)]
    assert sorted(torch.cat(parts).tolist()) == sorted(whole.tolist())
    assert {len(part) for part in parts} == {2}


def test_resuming_continues_the_same_sequence() -> None:
    source = ImageBatches(torch.zeros(30, 3, 8, 8, dtype=torch.uint8), batch_size=7, seed=5)
    whole, rest = list(Steps(source, 12)), list(Steps(source, 12, start_step=8))
    assert [step for step, _ in rest] == [8, 9, 10, 11]
    assert all(torch.equal(a[1], b[1]) for a, b in zip(whole[8:], rest, strict=True))


def test_a_batch_that_devices_cannot_share_is_refused() -> None:
    with pytest.raises(SalonError, match="cannot be shared equally by 3 devices"):
        Steps(
            ImageBatches(torch.zeros(10, 3, 8, 8, dtype=torch.uint8), batch_size=8, seed=0), 1, world_size=3
        )


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize(("total_steps", "held"), [(1, 8), (1200, 12), (8000, 40)])
def test_held_out_rows_are_few_beside_the_training(total_steps: int, held: int, world_size: int) -> None:
    """A fiftieth of 0.04 x 5 images for each step; at least eight, at most all."""
    source = ImageBatches(torch.zeros(40, 3, 8, 8, dtype=torch.uint8), batch_size=5, seed=0)
    shares = [list(HeldOut(source, total_steps, rank, world_size)) for rank in range(world_size)]
    rows = [row for share in shares for _, rows in share for row in rows.tolist()]
    assert sorted(rows) == list(range(held))
    assert [number for number, _ in shares[0]] == list(range(len(shares[0])))


def test_every_byte_survives_the_round_trip_to_floats() -> None:
    values = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    floats = to_float(values)
    assert floats.min() == -1
    assert floats.max() == 1
    assert torch.equal(to_uint8(floats), values)


def test_values_outside_the_range_are_clamped() -> None:
    assert to_uint8(torch.tensor([-9.0, 9.0])).tolist() == [0, 255]


def test_a_split_is_read_as_it_was_written(ingested_world) -> None:
    data = Dataset(ingested_world / "data/interim")["val"]
    assert data.images.shape == (60, 3, 32, 32)
    assert data.images.dtype == torch.uint8
    assert {len(column) for column in (data.ids, data.captions, data.langs, data.attributes)} == {60}
    assert set(data.attributes[0]) == {"concept", "style", "background"}


def test_a_missing_split_says_what_to_run(tmp_path) -> None:
    with pytest.raises(SalonError, match="run the ingest stage first"):
        Dataset(tmp_path)["val"]

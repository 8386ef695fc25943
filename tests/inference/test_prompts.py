"""Prompts encoded together: each as it would be alone."""

from dataclasses import replace

import pytest
import torch

from five_methods import METHODS, write_bundles
from salon.inference.bundle import CLIP
from salon.inference.prompts import REMEMBERED_PROMPTS, TRIAL_PROMPTS, PromptEncoder
from salon.nn.products import padded_count
from salon.towers.states import TextStates
from salon.towers.tower import ClipTower

PROMPTS = [
    f"{what} on a {where} background" for what in ("an owl", "ракета") for where in ("blue", "", "pink")
]


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> ClipTower:
    bundles = write_bundles(tmp_path_factory.mktemp("five"))
    return ClipTower.load(bundles[next(iter(METHODS))] / CLIP)


def are_equal(a: TextStates, b: TextStates) -> bool:
    return all(torch.equal(value, getattr(b, name)) for name, value in vars(a).items())


@pytest.mark.parametrize("count", [2, 3, 6])
def test_states_are_bit_for_bit_those_of_each_prompt_alone(tower: ClipTower, count: int) -> None:
    captions = PromptEncoder(tower)
    together = captions.encode(PROMPTS[:count])
    size = padded_count(count, captions.tower.device)
    assert captions._exact == {size: True}  # so that they were really encoded together
    for place, prompt in enumerate(PROMPTS[:count]):
        assert are_equal(together[place : place + 1], PromptEncoder(tower).encode([prompt]))


def test_states_are_those_of_the_tower(tower: ClipTower) -> None:
    states = PromptEncoder(tower).encode(PROMPTS)
    for place, prompt in enumerate(PROMPTS):
        expected = tower.encode_text([prompt])
        n = expected.tokens.shape[1]
        torch.testing.assert_close(states.tokens[place, :n], expected.tokens[0], rtol=1e-4, atol=1e-5)
        assert (states.tokens[place, n:] == 0).all()
        assert states.mask[place].tolist() == [*expected.mask[0].tolist(), *[False] * (tower.max_tokens - n)]
        torch.testing.assert_close(states.pooled[place], expected.pooled[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(states.concept[place], expected.concept[0], rtol=1e-4, atol=1e-5)


def test_repeated_and_remembered_prompts_come_in_their_places(
    tower: ClipTower, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = PromptEncoder(tower)
    captions.encode(PROMPTS[:2])
    encoded: list[str] = []
    encode = captions._encode
    monkeypatch.setattr(captions, "_encode", lambda prompts: encoded.extend(prompts) or encode(prompts))
    asked = [PROMPTS[2], PROMPTS[0], PROMPTS[2], PROMPTS[1]]
    states = captions.encode(asked)
    assert encoded == [PROMPTS[2]]
    for place, prompt in enumerate(asked):
        assert are_equal(states[place : place + 1], PromptEncoder(tower).encode([prompt]))


def test_no_more_than_the_last_prompts_are_remembered(tower: ClipTower) -> None:
    captions = PromptEncoder(tower)
    many = [f"owl {number}" for number in range(REMEMBERED_PROMPTS + 3)]
    captions.encode(many)
    assert list(captions._states) == many[3:]


def test_where_prompts_together_round_otherwise_each_is_encoded_alone(
    tower: ClipTower, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    captions = PromptEncoder(tower)
    encode, sizes = captions._encode, []

    def with_noise(prompts: list[str]) -> list[TextStates]:
        sizes.append(len(prompts))
        states = encode(prompts)
        if len(prompts) > 1:
            states[-1] = replace(states[-1], pooled=states[-1].pooled + 1e-7)
        return states

    monkeypatch.setattr(captions, "_encode", with_noise)
    captions.encode(PROMPTS[:3])
    assert sizes == [*[1] * len(TRIAL_PROMPTS), 4, 1, 1, 1]
    assert "together round otherwise" in caplog.text

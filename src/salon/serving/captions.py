"""The text side of a served model."""

import threading
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from salon.text.states import TextStates
from salon.text.tower import ClipTower

REMEMBERED_PROMPTS = 256


class Captions:
    """The text side: towers, and the states of the prompts that were asked for last."""

    def __init__(self, tower: ClipTower) -> None:
        self.tower = tower
        self._states: OrderedDict[str, TextStates] = OrderedDict()
        self._lock = threading.Lock()

    def encode(self, prompts: Sequence[str]) -> TextStates:
        """Each prompt encoded alone and padded to one length, so that its states do not depend on others."""
        states = [self._state(prompt) for prompt in prompts]
        return TextStates(*(torch.cat([getattr(s, name) for s in states]) for name in vars(states[0])))

    def warnings(self, prompt: str) -> list[str]:
        """What a prompt says in vain."""
        warnings = []
        if unknown := self.tower.unknown_words(prompt):
            warnings.append(f"words never seen in training: {', '.join(unknown)}")
        if self.tower.is_truncated(prompt):
            warnings.append(f"only the first {self.tower.max_tokens} tokens of the prompt were read")
        return warnings

    def _state(self, prompt: str) -> TextStates:
        with self._lock:
            if prompt in self._states:
                self._states.move_to_end(prompt)
                return self._states[prompt]
        alone = self.tower.encode_text([prompt])
        padding = self.tower.max_tokens - alone.tokens.shape[1]
        state = TextStates(
            F.pad(alone.tokens, (0, 0, 0, padding)),
            F.pad(alone.mask, (0, padding)),
            alone.pooled,
            alone.words,
        )
        with self._lock:
            self._states[prompt] = state
            if len(self._states) > REMEMBERED_PROMPTS:
                self._states.popitem(last=False)
        return state

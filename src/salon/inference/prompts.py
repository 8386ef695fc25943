"""The text side of a served model."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from salon.nn.products import batch_invariant, padded_count
from salon.towers.states import TextStates
from salon.towers.tower import ClipTower, tokenize

logger = logging.getLogger(__name__)

REMEMBERED_PROMPTS = 256
TRIAL_PROMPTS = (
    "an owl on a blue background",
    "сова",
    "a small rocket, in emoji style, on a striped background",
)


class PromptEncoder:
    """The text side: towers, and the states of the prompts that were asked for last."""

    def __init__(self, tower: ClipTower) -> None:
        self.tower = tower
        self._states: OrderedDict[str, TextStates] = OrderedDict()
        self._lock = threading.Lock()
        self._exact: dict[int, bool] = {}

    def encode(self, prompts: Sequence[str]) -> TextStates:
        """States of each prompt as it has them alone, padded to one length."""
        with self._lock:
            states = {prompt: self._states[prompt] for prompt in prompts if prompt in self._states}
        unseen = [prompt for prompt in dict.fromkeys(prompts) if prompt not in states]
        if len(unseen) > 1 and not self._is_exact(len(unseen)):
            states |= {prompt: self._encode([prompt])[0] for prompt in unseen}
        elif unseen:
            states |= zip(unseen, self._encode(unseen), strict=True)
        with self._lock:
            self._states |= states
            for prompt in states:
                self._states.move_to_end(prompt)
            while len(self._states) > REMEMBERED_PROMPTS:
                self._states.popitem(last=False)
        each = [states[prompt] for prompt in prompts]
        return TextStates(*(torch.cat([getattr(one, name) for one in each]) for name in vars(each[0])))

    def warnings(self, prompt: str) -> list[str]:
        """What a prompt says in vain."""
        warnings = []
        if unknown := self.tower.unknown_words(prompt):
            warnings.append(f"words never seen in training: {', '.join(unknown)}")
        if self.tower.is_truncated(prompt):
            warnings.append(f"only the first {self.tower.max_tokens} tokens of the prompt were read")
        return warnings

    def _is_exact(self, count: int) -> bool:
        """Whether so many prompts together have the states of each alone, found out when first needed."""
        size = padded_count(count, self.tower.device)
        if size not in self._exact:
            prompts = [TRIAL_PROMPTS[i % len(TRIAL_PROMPTS)] for i in range(size)]
            alone = {prompt: self._encode([prompt])[0] for prompt in TRIAL_PROMPTS}
            together = self._encode(prompts)
            self._exact[size] = all(
                torch.equal(getattr(alone[prompt], name), value)
                for prompt, states in zip(prompts, together, strict=True)
                for name, value in vars(states).items()
            )
            if not self._exact[size]:
                logger.warning("%d prompts together round otherwise here: encoded one by one", size)
        return self._exact[size]

    @torch.inference_mode()
    def _encode(self, prompts: Sequence[str]) -> list[TextStates]:
        tower = self.tower
        filled = [*prompts, *[prompts[-1]] * (padded_count(len(prompts), tower.device) - len(prompts))]
        batch = tokenize(tower.tokenizer, filled, max_tokens=tower.max_tokens)
        padding = (0, tower.max_tokens - batch["input_ids"].shape[1])
        ids = F.pad(batch["input_ids"], padding, value=tower.tokenizer.pad_token_id).to(tower.device)
        mask = F.pad(batch["attention_mask"], padding).to(tower.device)
        with batch_invariant():
            hidden, pooled = tower.towers.encode_text(ids, mask)
        # the concept of each alone: a product of rows, and as quick
        return [
            TextStates(
                hidden[r] * mask[r, :, None], mask[r].bool(), pooled[r], tower.concept(ids[r], mask[r])
            )
            for r in (slice(i, i + 1) for i in range(len(prompts)))
        ]

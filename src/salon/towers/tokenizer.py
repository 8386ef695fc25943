"""Byte-level BPE trained on the training captions, in the form that plain `transformers` loads."""

import re
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

START, END, PAD = "<|startoftext|>", "<|endoftext|>", "<|pad|>"
# In this order: transformers' CLIP takes an end token numbered 2 for a legacy configuration and then pools
# the token with the highest number instead of the last one.
SPECIAL_TOKENS = [START, END, PAD]

WORD = re.compile(r"\w+", re.UNICODE)


def train_tokenizer(captions: Iterable[str], *, vocab_size: int, max_tokens: int) -> PreTrainedTokenizerFast:
    """Learn merges from `captions`. Byte-level, so that no caption in any script has an unknown symbol."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(START, tokenizer.token_to_id(START)), (END, tokenizer.token_to_id(END))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_tokens,
        pad_token=PAD,
        bos_token=START,
        eos_token=END,
    )


def words(caption: str) -> list[str]:
    """The words of a caption, lower case, without punctuation."""
    return WORD.findall(caption.lower())


def unknown_words(caption: str, known: frozenset[str]) -> list[str]:
    """Words of `caption` that training never showed, in reading order, each once."""
    return list(dict.fromkeys(word for word in words(caption) if word not in known))


def known_words(captions: Sequence[str]) -> list[str]:
    """Every word of the training captions, sorted."""
    return sorted({word for caption in captions for word in words(caption)})

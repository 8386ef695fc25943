"""Captions as sources have them, in any script: cleaned, or refused with a reason; and in which language."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import cache

from salon.data.ingest.quarantine import Reason, Rejection

# the language that a script is most often read as; `scripts` in params.yaml says otherwise
LANGUAGE_OF_SCRIPT = {
    "latin": "en",
    "cyrillic": "ru",
    "greek": "el",
    "armenian": "hy",
    "georgian": "ka",
    "hebrew": "he",
    "arabic": "ar",
    "devanagari": "hi",
    "bengali": "bn",
    "tamil": "ta",
    "telugu": "te",
    "thai": "th",
    "hangul": "ko",
    "kana": "ja",
    "han": "zh",
    "ethiopic": "am",
    "khmer": "km",
    "myanmar": "my",
    "sinhala": "si",
}
UNDETERMINED = "und"  # BCP-47 for a text of no language, e.g. digits alone
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # Unicode's category Cc
TAG = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")

# how Unicode names the letters of a script, where that is not the script's own name
_NAMED = {
    "CJK": "han",
    "HIRAGANA": "kana",
    "KATAKANA": "kana",
    "KATAKANA-HIRAGANA": "kana",
    "HALFWIDTH": "kana",
}


def clean_caption(raw: object, *, length: tuple[int, int]) -> str | Rejection:
    """The caption in Unicode's composed form, blanks run together; or why it cannot be used.

    Args:
        raw: Text, or UTF-8 bytes; anything else is refused.
        length: Fewest and most characters.
    """
    if raw is None:
        return Rejection(Reason.NO_CAPTION)
    if isinstance(raw, bytes):
        try:
            raw = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            return Rejection(Reason.CAPTION_ENCODING, f"not UTF-8: {error.reason} at byte {error.start}")
    if not isinstance(raw, str):
        return Rejection(Reason.CAPTION_NOT_TEXT, f"it is {type(raw).__name__}")
    try:
        raw.encode("utf-8")
    except UnicodeEncodeError as error:  # half of a surrogate pair, as JSON's escapes allow it
        return Rejection(Reason.CAPTION_ENCODING, f"no character at position {error.start}")
    text = " ".join(unicodedata.normalize("NFC", raw.removeprefix("\ufeff")).split())
    if not text:
        return Rejection(Reason.NO_CAPTION, "only blanks" if raw else "")
    if control := CONTROL.search(text):
        return Rejection(Reason.CAPTION_CONTROL_CHARACTER, f"U+{ord(control[0]):04X}")
    shortest, longest = length
    if len(text) < shortest:
        return Rejection(Reason.CAPTION_TOO_SHORT, f"{len(text)} characters, fewer than {shortest}")
    if len(text) > longest:
        return Rejection(Reason.CAPTION_TOO_LONG, f"{len(text)} characters, more than {longest}")
    return text


def language_of(text: str, scripts: Mapping[str, str]) -> str:
    """Language tag by the script of most letters; `scripts` overrides `LANGUAGE_OF_SCRIPT`."""
    counts = Counter(_script(sign) for sign in text if sign.isalpha())
    if not counts:
        return UNDETERMINED
    # Japanese is written mostly in Han, with kana between that no other language has
    script = "kana" if counts["kana"] else max(counts, key=lambda name: counts[name])
    return scripts.get(script) or LANGUAGE_OF_SCRIPT.get(script, UNDETERMINED)


def check_tag(tag: object) -> str | Rejection:
    """A BCP-47 language tag, e.g. `en` or `pt-BR`."""
    text = str(tag).strip()
    if not TAG.fullmatch(text):
        return Rejection(Reason.BAD_LANGUAGE_TAG, f"{text!r} is no language tag")
    return text


@cache  # most captions have the same few letters
def _script(letter: str) -> str:
    if letter.isascii():
        return "latin"
    first = unicodedata.name(letter, "").split(" ")[0]
    return _NAMED.get(first, first.lower())

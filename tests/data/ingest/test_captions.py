"""Captions in any script, and those that are none."""

import pytest

from salon.data.ingest.captions import check_tag, clean_caption, language_of
from salon.data.ingest.quarantine import Reason, Rejection

LENGTH = (3, 20)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("an owl", "an owl"),
        ("  an \t owl\r\n", "an owl"),
        (b"an owl", "an owl"),
        (b"\xef\xbb\xbfan owl", "an owl"),
        ("\ufeffсова", "сова"),
        ("cafe\u0301", "caf\u00e9"),
        ("ふくろうの絵", "ふくろうの絵"),
        ("بومة زرقاء", "بومة زرقاء"),
        ("👩\u200d🚀 in space", "👩\u200d🚀 in space"),
    ],
)
def test_caption_is_cleaned(raw, text):
    assert clean_caption(raw, length=LENGTH) == text


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, Reason.NO_CAPTION),
        ("", Reason.NO_CAPTION),
        (" \n\u00a0\t", Reason.NO_CAPTION),
        (b"", Reason.NO_CAPTION),
        (17, Reason.CAPTION_NOT_TEXT),
        (["an owl"], Reason.CAPTION_NOT_TEXT),
        ({"text": "an owl"}, Reason.CAPTION_NOT_TEXT),
        ("сова".encode("cp1251"), Reason.CAPTION_ENCODING),
        ("an owl".encode("utf-16"), Reason.CAPTION_ENCODING),
        ("an \ud800 owl", Reason.CAPTION_ENCODING),
        ("an\x00 owl", Reason.CAPTION_CONTROL_CHARACTER),
        (b"an owl\x00", Reason.CAPTION_CONTROL_CHARACTER),
        ("an \x1b[31mowl", Reason.CAPTION_CONTROL_CHARACTER),
        ("ow", Reason.CAPTION_TOO_SHORT),
        ("an owl " * 3, None),
        ("an owl " * 4, Reason.CAPTION_TOO_LONG),
    ],
)
def test_caption_is_refused_for_its_reason(raw, reason):
    found = clean_caption(raw, length=LENGTH)
    assert (found.reason if isinstance(found, Rejection) else None) == reason


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        ("an owl on blue", "en"),
        ("сова, стиль noto", "ru"),
        ("стиль fluent three dimensional", "en"),
        ("η κουκουβάγια", "el"),
        ("בז על רקע כחול", "he"),
        ("بومة زرقاء", "ar"),
        ("नीला उल्लू", "hi"),
        ("파란 부엉이", "ko"),
        ("青いふくろう", "ja"),
        ("蓝色的猫头鹰", "zh"),
        ("นกฮูกสีฟ้า", "th"),
        ("12:30 — 🦉", "und"),
    ],
)
def test_script_tells_the_language(text, lang):
    assert language_of(text, {}) == lang


def test_settings_say_what_else_a_script_means():
    assert language_of("eine blaue Eule", {"latin": "de"}) == "de"
    assert language_of("синя сова", {"latin": "de", "cyrillic": "uk"}) == "uk"


@pytest.mark.parametrize("tag", ["en", "pt-BR", "zh-Hant-TW", " ru "])
def test_language_tag_is_taken(tag):
    assert check_tag(tag) == tag.strip()


@pytest.mark.parametrize("tag", ["", "e", "english language", "en_US", 7, "рус"])
def test_what_is_no_language_tag_is_refused(tag):
    found = check_tag(tag)
    assert isinstance(found, Rejection)
    assert found.reason is Reason.BAD_LANGUAGE_TAG

"""Texts of bounded length, for records and state that must not grow with what a user writes into one."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

LONGEST_TEXT = 2_000
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


def short_text(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return a text of at most `longest` characters as it is; a longer one is cut, and keeps its identity by its length and a digest.

    Half a pair of surrogates, which JSON can write and no record can hold, becomes U+FFFD.

    >>> short_text("weather", 5)
    'weath… (7 characters, SHA-256 e5e72beb4e3c6926…)'
    """
    digest = "" if len(text) <= longest else hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    if not text.isascii():
        text = _HALF_A_PAIR.sub("\ufffd", text)
    return f"{text[:longest]}… ({len(text)} characters, SHA-256 {digest}…)" if digest else text


def with_short_texts(value: Any, longest: int = LONGEST_TEXT) -> Any:  # a record of any shape
    """Return a record in which every text, also as a key or inside lists and maps, is short."""
    if isinstance(value, str):
        return short_text(value, longest)
    if isinstance(value, Mapping):
        return {short_text(name, longest): with_short_texts(one, longest) for name, one in value.items()}
    return [with_short_texts(one, longest) for one in value] if isinstance(value, list | tuple) else value

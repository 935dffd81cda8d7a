"""Dead letters that fit their topic, whatever they are about."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOM_BYTES = 512
"""What a record takes in a topic besides its key and value (batch header, offsets, record headers), generously."""
DEFAULT_LIMIT_BYTES = 1_048_588
LEAST_LIMIT_BYTES = 16 << 10
"""Less than that no topic of ours may take: a letter without its original would not fit."""
LONGEST_KEY = 1_024
_DETAIL, _KEY = 2_000, LONGEST_KEY
_FIELDS_BYTES = 1_024


def weight(key_bytes: NDArray[np.int64], value_bytes: NDArray[np.int64], characters: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return what letters with their whole originals take at most, arrays of shape (n,); `characters` of stage, reason, detail and topic together."""
    return 2 * key_bytes + value_bytes + 4 * characters + _FIELDS_BYTES + ROOM_BYTES


def fits(letter: dict[str, Any], limit_bytes: int) -> bool:
    """Say whether a letter with its whole original fits a topic that takes records of `limit_bytes`."""
    key, value = len(letter["key"] or b""), len(letter["value"] or b"")
    texts = sum(4 * len(letter[name]) for name in ("stage", "reason", "detail", "source_topic"))
    return 2 * key + value + texts + _FIELDS_BYTES + ROOM_BYTES <= limit_bytes


def fitted(letter: dict[str, Any], limit_bytes: int, quarantined_in: str | None = None) -> dict[str, Any]:
    """Return the letter as it is when it fits, else with the beginning of the original, its length and its SHA-256.

    Parameters
    ----------
    limit_bytes
        What the letters' topic takes (``max.message.bytes``).
    quarantined_in
        Where the whole original is kept, None: nowhere but in its own topic.
    """
    if fits(letter, limit_bytes):
        return letter
    key, value = letter["key"], letter["value"]
    cut = dict(letter)
    cut["detail"] = letter["detail"][:_DETAIL]
    cut["key"] = None if key is None else key[:_KEY]
    room = limit_bytes - ROOM_BYTES - _FIELDS_BYTES - 2 * _KEY - 4 * (_DETAIL + 512)
    cut["value"] = None if value is None else value[: max(0, room)]
    cut["value_bytes"] = None if value is None else len(value)
    cut["value_sha256"] = None if value is None else hashlib.sha256(value).hexdigest()
    cut["quarantined_in"] = quarantined_in
    return cut


def letter_key(key: bytes | None) -> bytes | None:
    """Return the Kafka key of a letter: the original's, or its beginning."""
    return None if key is None else key[:_KEY]

"""Who may command: a command counts if it carries the signature of somebody who has the key."""

import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

COMMANDS = ("retrain", "roll_back", "pause", "resume")
RESUME_STREAM = "resume_stream"
"""The command to ingestion; the stream stands where a model stands in the others."""
_SIGNED = ("command_id", "model", "command", "reason", "issued_at")
_SCHEME = "v1:"


def signed_command(key: bytes, model: str, command: str, reason: str, command_id: str = "", issued_at: int | None = None) -> dict[str, Any]:
    """Return a `tidemill.Command` with its signature.

    Parameters
    ----------
    command_id
        By which a repeated command is known; a random one by default.
    issued_at
        Milliseconds; now by default. It is part of what is signed: control refuses a command older than those it has forgotten.
    """
    record: dict[str, Any] = {
        "command_id": command_id or uuid.uuid4().hex,
        "model": model,
        "command": command,
        "reason": reason,
        "issued_at": time.time_ns() // 1_000_000 if issued_at is None else issued_at,
    }
    return {**record, "signature": signature(record, key)}


def signature(record: Mapping[str, Any], key: bytes) -> str:
    """Return the HMAC-SHA256 of a command's fields under a key, with the name of the scheme."""
    text = json.dumps([record[name] for name in _SIGNED], ensure_ascii=True, separators=(",", ":"))
    return _SCHEME + hmac.new(key, f"{_SCHEME}{text}".encode(), hashlib.sha256).hexdigest()


def is_signed(record: Mapping[str, Any], key: bytes) -> bool:
    """Whether a command carries its signature under the key; takes the same time for any wrong one."""
    return hmac.compare_digest(str(record.get("signature", "")).encode(), signature(record, key).encode())

"""Who may command: a command counts if it carries the signature of somebody who has the key."""

import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

COMMANDS = ("retrain", "roll_back", "promote", "step_back", "pin", "unpin", "pause", "resume")
RESUME_STREAM = "resume_stream"
"""The command to ingestion; the stream stands where a model stands in the others."""
# By scheme, what is signed. A command of the first has none of the later fields: they would be anybody's.
_LATER = ("version", "serving", "operator")
_FIRST = ("command_id", "model", "command", "reason", "issued_at")
_SIGNED = {"v1:": _FIRST, "v2:": (*_FIRST, *_LATER)}


def signed_command(
    key: bytes,
    model: str,
    command: str,
    reason: str,
    command_id: str = "",
    issued_at: int | None = None,
    *,
    version: str = "",
    serving: str = "",
    operator: str = "",
) -> dict[str, Any]:
    """Return a `tidemill.Command` with its signature.

    Parameters
    ----------
    command_id
        By which a repeated command is known; a random one by default.
    issued_at
        Milliseconds; now by default. It is part of what is signed: control refuses a command older than those it has forgotten.
    version
        Where a roll-back goes, what is to be pinned, or which challenger is meant.
    serving
        The version that serves as far as the operator knows: the command is refused once it does not.
    operator
        Who commands.
    """
    record: dict[str, Any] = {
        "command_id": command_id or uuid.uuid4().hex,
        "model": model,
        "command": command,
        "reason": reason,
        "issued_at": time.time_ns() // 1_000_000 if issued_at is None else issued_at,
        "version": version,
        "serving": serving,
        "operator": operator,
    }
    return {**record, "signature": signature(record, key)}


def signature(record: Mapping[str, Any], key: bytes, scheme: str = "v2:") -> str:
    """Return the HMAC-SHA256 of a command's fields under a key, with the name of the scheme."""
    text = json.dumps([record.get(name, "") for name in _SIGNED[scheme]], ensure_ascii=True, separators=(",", ":"))
    return scheme + hmac.new(key, f"{scheme}{text}".encode(), hashlib.sha256).hexdigest()


def is_signed(record: Mapping[str, Any], key: bytes) -> bool:
    """Whether a command carries its signature under the key; takes the same time for any wrong one.

    The signature of an earlier version counts for a command that says nothing which it does not cover.
    """
    given = str(record.get("signature", ""))
    scheme = "v1:" if given.startswith("v1:") and not any(record.get(name) for name in _LATER) else "v2:"
    return hmac.compare_digest(given.encode(), signature(record, key, scheme).encode())

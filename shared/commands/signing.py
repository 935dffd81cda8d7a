"""Who may command: a command counts if it carries the signature of somebody who has the key."""

import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

COMMANDS = ("retrain", "roll_back", "promote", "step_back", "ab", "pin", "unpin", "pause", "resume")
RESUME_STREAM = "resume_stream"
"""The command to ingestion; the stream stands where a model stands in the others."""
MUTE_ALERTS, UNMUTE_ALERTS = "mute_alerts", "unmute_alerts"
"""The commands to alerts; a pattern of models stands where a model stands in the others."""
NOT_FOR_CONTROL = frozenset({RESUME_STREAM, MUTE_ALERTS, UNMUTE_ALERTS})
# By scheme, what is signed. A command of an earlier scheme has none of the later fields: they would be anybody's.
_FIRST = ("command_id", "model", "command", "reason", "issued_at")
_SECOND = (*_FIRST, "version", "serving", "operator")
_THIRD = (*_SECOND, "rules", "duration_ms")
_SIGNED = {"v1:": _FIRST, "v2:": _SECOND, "v3:": _THIRD, "v4:": (*_THIRD, "share")}
_NEWEST = "v4:"


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
    rules: str = "",
    duration_ms: int = 0,
    share: float = 0.0,
) -> dict[str, Any]:
    """Return a `tidemill.Command` with its signature.

    Parameters
    ----------
    command_id
        By which a repeated command is known; a random one by default.
    issued_at
        Milliseconds; now by default. It is part of what is signed: control refuses a command older than those it has forgotten.
    version
        Where a roll-back goes, what is to be pinned or compared, or which challenger is meant.
    serving
        The version that serves as far as the operator knows: the command is refused once it does not.
    operator
        Who commands.
    rules
        Of a mute: names of alert rules, separated by commas; ``*`` stands for anything.
    duration_ms
        Of a mute: how long; 0 until it is unmuted.
    share
        Of an A/B test: of the requests, which the version answers; 0: the application's.
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
        "rules": rules,
        "duration_ms": duration_ms,
        "share": float(share),
    }
    # Services of an earlier version know earlier schemes only, and need no other where a command has no later field.
    scheme = _NEWEST if share else "v3:" if rules or duration_ms else "v2:"
    return {**record, "signature": signature(record, key, scheme)}


def signature(record: Mapping[str, Any], key: bytes, scheme: str = _NEWEST) -> str:
    """Return the HMAC-SHA256 of a command's fields under a key, with the name of the scheme."""
    text = json.dumps([record.get(name, "") for name in _SIGNED[scheme]], ensure_ascii=True, separators=(",", ":"))
    return scheme + hmac.new(key, f"{scheme}{text}".encode(), hashlib.sha256).hexdigest()


def is_signed(record: Mapping[str, Any], key: bytes) -> bool:
    """Whether a command carries its signature under the key; takes the same time for any wrong one.

    The signature of an earlier version counts for a command that says nothing which it does not cover.
    """
    given = str(record.get("signature", ""))
    scheme = given[:3] if given[:3] in _SIGNED else _NEWEST
    if any(record.get(name) for name in _SIGNED[_NEWEST] if name not in _SIGNED[scheme]):
        scheme = _NEWEST
    return hmac.compare_digest(given.encode(), signature(record, key, scheme).encode())

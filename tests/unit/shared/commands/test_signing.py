"""Whose command it is: every field is signed, and an older signature covers no newer field."""

import hashlib
import hmac
import json

import pytest

from tidemill.shared.commands.signing import is_signed, signed_command

KEY = b"the key"


def of_the_first_scheme() -> dict[str, object]:
    """A command as an earlier version signed it, by the standard library alone."""
    record: dict[str, object] = {"command_id": "a", "model": "m", "command": "roll_back", "reason": "r", "issued_at": 5}
    digest = hmac.new(KEY, b"v1:" + json.dumps(list(record.values()), separators=(",", ":")).encode(), hashlib.sha256).hexdigest()
    return {**record, "signature": f"v1:{digest}"}


@pytest.mark.parametrize("field", ["command_id", "model", "command", "reason", "issued_at", "version", "serving", "operator", "rules", "duration_ms"])
def test_every_field_is_signed(field: str) -> None:
    right = signed_command(KEY, "m", "roll_back", "r", "a", 5, version="v1", serving="v2", operator="ann", rules="lag", duration_ms=7)
    assert is_signed(right, KEY) and not is_signed(right, b"another")
    assert not is_signed({**right, field: 6 if field in ("issued_at", "duration_ms") else "changed"}, KEY)


def test_a_command_of_an_earlier_version_counts_for_what_it_says() -> None:
    record = of_the_first_scheme()
    assert is_signed(record, KEY)
    assert is_signed({**record, "version": "", "serving": "", "operator": ""}, KEY), "as the topic's schema fills it up"


def of_the_second_scheme() -> dict[str, object]:
    """A command as the version before signed it, by the standard library alone."""
    record: dict[str, object] = {
        "command_id": "a",
        "model": "m",
        "command": "mute_alerts",
        "reason": "r",
        "issued_at": 5,
        "version": "",
        "serving": "",
    }
    record["operator"] = "ann"
    digest = hmac.new(KEY, b"v2:" + json.dumps(list(record.values()), separators=(",", ":")).encode(), hashlib.sha256).hexdigest()
    return {**record, "signature": f"v2:{digest}"}


def test_a_command_without_later_fields_is_signed_as_the_version_before_reads_it() -> None:
    record = of_the_second_scheme()
    assert is_signed({**record, "rules": "", "duration_ms": 0}, KEY)
    assert signed_command(KEY, "m", "mute_alerts", "r", "a", 5, operator="ann")["signature"] == record["signature"]


@pytest.mark.parametrize("later", [{"rules": "*"}, {"duration_ms": 9}])
def test_nobody_adds_to_a_command_of_the_version_before(later: dict[str, object]) -> None:
    assert not is_signed({**of_the_second_scheme(), "rules": "", "duration_ms": 0, **later}, KEY)


@pytest.mark.parametrize("field", ["version", "serving", "operator"])
def test_nobody_adds_to_a_command_of_an_earlier_version(field: str) -> None:
    assert not is_signed({**of_the_first_scheme(), field: "v9"}, KEY)

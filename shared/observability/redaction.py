"""Keeps passwords and tokens out of whatever a process says: logs, errors, screens, HTTP answers."""

import json
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from urllib.parse import quote, unquote

from pydantic import BaseModel, SecretStr

HIDDEN = "***"
_SHORTEST = 4
_SECRET_NAME = re.compile(r"passw|secret|token|credential|api.?key|access.?key|private|key\.pem|user\.info|jaas|oauthbearer\.config", re.IGNORECASE)
# What stands between "//" and the last "@" of an address. A password may hold an "@" that should have been written %40, and quotes; after a colon
# that no port follows it is one even where it holds a slash.
_USER_INFO = re.compile(r"(?<=://)(?:[^\s/]+@|[^\s/:@]*:(?!\d{1,5}(?:[/?#]|$))[^\s]+@)")
# A number after the colon may be a port, and what follows a path with an "@"; or both are a password with a slash. The name before them is shown.
_PORT_OR_PASSWORD = re.compile(r"(?<=://)(?P<name>[^\s/:@]*:)(?P<value>\d{1,5}[/?#][^\s'\"<>]*)@")
_ASSIGNED = re.compile(
    r"(?P<name>(?:sasl[._]|ssl[._])?\b(?:password|passwd|client[._]secret|secret|api[._-]?key|access[._-]?key|token|user[._]info)"
    r"['\"]?\s?(?:=|:\s?(?=['\"]))\s?['\"]?)(?P<value>[^\s'\"&,;)}\]]+)",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(?P<name>\b(?:Bearer|Basic) )[A-Za-z0-9._~+/=-]{4,}")


def redacted(text: str) -> str:
    """Return a text without what looks like a secret: user information in an address, ``password=...``, ``Bearer ...``.

    >>> redacted("redis://:S3cret@db:6379/0 refuses"), redacted("{'sasl.password': 'S3cret', 'client.id': 'a'}")
    ('redis://***@db:6379/0 refuses', "{'sasl.password': '***', 'client.id': 'a'}")
    """
    if "://" in text:
        text = _PORT_OR_PASSWORD.sub(rf"\g<name>{HIDDEN}@", _USER_INFO.sub(f"{HIDDEN}@", text))
    text = _ASSIGNED.sub(rf"\g<name>{HIDDEN}", text)
    return _BEARER.sub(rf"\g<name>{HIDDEN}", text)


class Redactor:
    """Hides the secrets that a process knows wherever they stand, and what looks like one.

    The second line of defence: the first is that no message is given a secret (`redacted` addresses, `SecretStr`).

    Parameters
    ----------
    secrets
        Plain texts; those of fewer than four characters would be found in every other word and are left to `redacted`.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        plain = {secret for secret in secrets if len(secret) >= _SHORTEST}
        # As they stand in JSON, in the representation of a text, and in an address.
        written = {form for secret in plain for form in _forms(secret)}
        longest_first = sorted(written, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        return redacted(self._known.sub(HIDDEN, text) if self._known else text)

    def value(self, value: object) -> object:
        """Return what a log's extra held without secrets; numbers and truth values as they are, everything else as text or of texts."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return {str(name): HIDDEN if is_secret_name(str(name)) else self.value(item) for name, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(item) for item in value]
        return self.text(str(value))


def _forms(secret: str) -> tuple[str, ...]:
    in_json = (json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
    return secret, *in_json, repr(secret)[1:-1], quote(secret, safe="")


def is_secret_name(name: str) -> bool:
    """Whether a setting of that name holds a secret: ``sasl.password``, ``ssl.key.pem``, ``basic.auth.user.info``, ..."""
    return _SECRET_NAME.search(name) is not None


def secrets_of(settings: BaseModel) -> set[str]:
    """Return every secret in a process's settings: `SecretStr`, passwords in addresses, client options whose name says so."""
    return {secret for secret in _secrets(settings, "") if secret}


def _secrets(value: object, name: str) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for field in type(value).model_fields:
            yield from _secrets(getattr(value, field), field)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _secrets(item, str(key))
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _secrets(item, name)
    elif isinstance(value, str):
        if is_secret_name(name) and "file" not in name:
            yield value
        yield from _passwords(value)


def _passwords(address: str) -> Iterator[str]:
    """User information of an address, as written and decoded; a name alone (an access key) counts as well."""
    if "://" not in address:
        return
    found = _USER_INFO.search(address) or _PORT_OR_PASSWORD.search(address)
    if found:
        information = found.group()[:-1]
        _, colon, password = information.partition(":")
        chosen = password if colon else information
        yield from {chosen, unquote(chosen)}


def redact_tracebacks() -> None:
    """Write exceptions that nobody catches without what looks like a secret: for child processes, whose log is their standard error."""
    sys.excepthook = _print_redacted


def _print_redacted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, trace))))

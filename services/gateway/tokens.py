"""Bearer tokens: who somebody is, and what they may do."""

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from tidemill.services.gateway.settings import DoorSettings, Role, TokenSettings
from tidemill.shared.observability.secret_file import secret_file

ROLES: tuple[Role, ...] = ("read", "publish", "operate")
_FILE = TypeAdapter(dict[str, TokenSettings])


class TokensError(ValueError):
    """The file of tokens cannot be used: names it and what was expected, and shows nothing of it."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose token it is."""

    name: str
    roles: frozenset[Role]


class TokenBook:
    """Knows tokens by their SHA-256; every look-up compares with all of them, in constant time."""

    def __init__(self, tokens: Mapping[str, TokenSettings]) -> None:
        self._holders = [(_digest(one.token.get_secret_value()), Holder(name, frozenset(one.roles))) for name, one in tokens.items()]

    def __len__(self) -> int:
        """Tokens known; with none, the door is open."""
        return len(self._holders)

    def holder(self, token: str) -> Holder | None:
        """Return whose token it is."""
        asked, owner = _digest(token), None
        for digest, holder in self._holders:
            if hmac.compare_digest(digest, asked):
                owner = holder
        return owner


def read_tokens(settings: DoorSettings) -> dict[str, TokenSettings]:
    """Return the tokens of the settings and of their file, which is made if it is not there.

    Raises
    ------
    TokensError
    """
    if settings.tokens_file is None:
        return dict(settings.tokens)
    try:
        in_file = _FILE.validate_json(secret_file(settings.tokens_file, _fresh))
    except (ValidationError, ValueError, OSError) as problem:
        raise TokensError(_why(settings.tokens_file, problem)) from None
    if twice := sorted(set(in_file) & set(settings.tokens)):
        raise TokensError(f"{settings.tokens_file}: expected other names than in TIDEMILL_GATEWAY__TOKENS, found {', '.join(twice)} in both")
    return {**in_file, **settings.tokens}


def _fresh() -> str:
    """One token for each role; who operates may do all."""
    roles: dict[str, tuple[Role, ...]] = {"reader": ("read",), "publisher": ("publish",), "operator": ROLES}
    return json.dumps({name: {"token": secrets.token_urlsafe(32), "roles": list(own)} for name, own in roles.items()}, indent=2)


def _why(file: Path, problem: Exception) -> str:
    if isinstance(problem, ValidationError):
        first = problem.errors(include_url=False, include_input=False)[0]
        return f'{file}: expected {{"NAME": {{"token": "...", "roles": ["read"]}}}}, found otherwise at {first["loc"]}: {first["msg"]}'
    return f"{file}: expected a file of tokens that can be read ({problem})"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()

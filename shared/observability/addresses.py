"""Addresses of servers in settings: one in which nobody can tell the password from the rest is refused, and not shown."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

_STRANGE = re.compile(r"[\s\[\]]")
_END = re.compile(r"[/?#]")
_EXPECTED = (
    "expected an address in which the special characters of user and password are percent-encoded: / as %2F, ? as %3F, # as %23, @ as %40, [ as %5B,"
    " ] as %5D, a space as %20 (urllib.parse.quote does it)"
)


def percent_encoded(address: str) -> str:
    """Return an address as it is; ValueError, which shows nothing of it, where user and password cannot be told from what follows.

    A password with a slash ends the server's name for whoever reads the address: libraries then take the half before it for a port, and say so.

    >>> percent_encoded("redis://:a%2Fb@db:6379/0"), percent_encoded("s3://bucket/model@3"), percent_encoded(".tidemill/lake")
    ('redis://:a%2Fb@db:6379/0', 's3://bucket/model@3', '.tidemill/lake')
    """
    if "://" not in address:
        return address
    _, _, rest = address.partition("://")
    authority, before = _END.split(rest, maxsplit=1)[0], rest.rpartition("@")[0]
    if (":" in authority and len(before) > len(authority)) or _STRANGE.search(before[: len(authority)]):
        raise ValueError(_EXPECTED)
    try:
        _ = urlsplit(address).port
    except ValueError:
        raise ValueError("expected an address as SCHEME://HOST:PORT with a number as port" if "@" not in address else _EXPECTED) from None
    return address


Address = Annotated[str, AfterValidator(percent_encoded)]
"""A folder, or the address of a server, with or without user and password."""

"""Secrets that a machine makes for itself: random, in a file that only its owner reads, made once."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from tidemill.shared.regular_file import regular_file

_OWNER_ONLY = 0o600


def random_secret() -> str:
    """Return 256 random bits as text."""
    return secrets.token_urlsafe(32)


def secret_file(path: Path, make: Callable[[], str] = random_secret) -> str:
    """Return what a file says; make it first if it is not there.

    Several processes may ask at once: one of them makes the file, whole, and all read the same.

    Raises
    ------
    ValueError
        The file is empty: somebody else has made it.
    OSError
        It cannot be read, or is a pipe or a device.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY), "w", encoding="utf-8") as file:
                file.write(make() + "\n")
                file.flush()
                os.fsync(file.fileno())
            # A link, unlike a rename, does not replace what another process has made meanwhile.
            os.link(part, path)
        except FileExistsError:
            pass
        finally:
            part.unlink(missing_ok=True)
    secret = regular_file(path).read_text(encoding="utf-8").strip()
    if not secret:
        raise ValueError(f"{path}: expected a secret, found an empty file; remove it, and a new one is made")
    return secret

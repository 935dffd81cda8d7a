"""Names of the application in paths, as the description of the interface lists them: for generators, and for tests that are made from it."""

from collections.abc import Iterable
from typing import Any

from fastapi import Path


def path_name(description: str, names: Iterable[str]) -> Any:  # what FastAPI takes as a parameter's mark
    """Return the mark of a path's part that is one of some names; another one is answered by the route itself, with what there is."""
    known = list(names)
    return Path(description=description, json_schema_extra={"enum": known} if known else None)

"""Examples in docstrings are true."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = sorted(f"tidemill/{folder.name}" for folder in (ROOT / "tidemill").iterdir() if folder.is_dir() and not folder.is_symlink())


def module(path: Path) -> str:
    """Name a module: the top-level folders are rooms of `tidemill`, the campaigns are not."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name if name.startswith(("tidemill.", "campaigns.")) else f"tidemill.{name}"


SOURCES = sorted(
    path
    for room in ("services", "shared", "deploy", "examples", *ROOMS, "campaigns")
    for path in (ROOT / room).rglob("*.py")
    if ">>> " in path.read_text()
)
MODULES = [module(path) for path in SOURCES]


@pytest.mark.parametrize("module", MODULES)
def test_examples_give_what_they_say(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted and not result.failed

"""The lock file is complete, exact, hashed, and names no host."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LOCK = (ROOT / "requirements.lock").read_text()
REQUIREMENT = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(\[[^]]*])?", re.MULTILINE)


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, str]:
    """Each locked requirement's name and its whole entry."""
    entries = re.split(r"\n(?=[A-Za-z0-9])", "\n".join(line for line in LOCK.splitlines() if not line.startswith("#")).strip())
    return {normalized(entry.split("==")[0].split("[")[0]): entry for entry in entries}


def test_every_declared_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = project["project"]["dependencies"] + project["project"]["optional-dependencies"]["dev"] + project["build-system"]["requires"]
    names = {normalized(match.group(1)) for requirement in declared if (match := REQUIREMENT.match(requirement))}
    assert names - set(locked()) == set()


def test_every_entry_is_exact_and_hashed() -> None:
    for name, entry in locked().items():
        assert re.match(r"^[A-Za-z0-9._-]+(\[[^]]*])?==[^\s;]+", entry), name
        assert "--hash=sha256:" in entry, name


def test_no_host_is_named() -> None:
    assert "://" not in LOCK
    assert "index-url" not in LOCK.replace("--no-emit-index-url", "")

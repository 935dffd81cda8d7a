"""What documents name is there: files, make targets, links between pages, and commands that can be read as they stand."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.help_examples import commands

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT, ROOT / "docs", ROOT / "docs" / "guide", ROOT / "docs" / "reference")
PAGES = sorted(page for folder in FOLDERS for page in folder.glob("*.md"))
TARGETS = set(" ".join(re.findall(r"^([a-z][\w -]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)).split())
COMMANDS = commands()
# What commands before have made, in the folder in which a reader types.
MADE = {"main": ROOT, "my-app": ROOT / "examples" / "payments", "phishing": ROOT / "examples" / "payments"}
WRITTEN = ("plan.json", "march.state")


def ids(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_files_targets_and_pages_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text("utf-8")
    tests = {name.rstrip("/.") for name in re.findall(r"\btests/[\w./]+", text)}
    assert [name for name in sorted(tests) if not (ROOT / name).exists()] == []
    targets = set(re.findall(r"`make ([\w-]+)", text)) | set(re.findall(r"^make ([\w-]+)", text, re.MULTILINE))
    assert sorted(targets - TARGETS) == []
    pages = {link for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text) if "://" not in link}
    assert [link for link in sorted(pages) if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands_that_a_page_gives_can_be_read(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, place in {"examples": ROOT / "examples", **MADE}.items():
        (tmp_path / name).symlink_to(place)
    for name in WRITTEN:
        (tmp_path / name).touch()
    for words in given(page.read_text("utf-8")):
        path = next(path for path in COMMANDS if tuple(words[: len(path)]) == path)
        context = COMMANDS[path].make_context(" ".join(path), words[len(path) :])
        assert not context.args, words


def given(text: str) -> Iterator[list[str]]:
    """Return the words behind `tidemill` of each line of a block for a shell."""
    for block in re.findall(r"^```(?:sh|bash)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.removeprefix(".venv/bin/")
            if line.startswith("tidemill ") and "..." not in line and "--version" not in line:
                command = re.split(r" [>|&]|;|&&", line)[0]
                yield shlex.split(command, comments=True)[1:]

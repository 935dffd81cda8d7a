"""Fault points: an order strikes once, at its call, in a process that has the hook on its path; without an order nothing happens."""

import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from campaigns.chaos.points import POINTS, STRUCK, VARIABLE, struck

ROOT = Path(__file__).parents[4]
HOOK = ROOT / "campaigns" / "chaos" / "hook"
PROGRAM = """
from tidemill.shared.models.artifacts import ArtifactStore
store = ArtifactStore({folder!r})
store.put(b"first")
print("first", flush=True)
store.put(b"second")
print("second", flush=True)
"""


def run(tmp_path: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    (tmp_path / "orders").mkdir(exist_ok=True)
    path = os.pathsep.join([str(HOOK), str(ROOT)])
    program = PROGRAM.format(folder=str(tmp_path / "artifacts"))
    return subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path, **environment}, capture_output=True, text=True, check=False
    )


def stored(tmp_path: Path) -> int:
    return sum(path.is_file() for path in (tmp_path / "artifacts").rglob("*") if not path.name.endswith(".part"))


@pytest.mark.parametrize(("how", "left"), [("kill before", 0), ("kill after", 1)])
def test_a_process_dies_at_the_call_that_was_ordered(tmp_path: Path, how: str, left: int) -> None:
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "artifact write").write_text(f"{how} 0.0")
    death = run(tmp_path, {VARIABLE: str(tmp_path / "orders")})
    assert death.returncode == -signal.SIGKILL, death.stderr
    assert death.stdout == "" and stored(tmp_path) == left
    assert (tmp_path / "orders" / ("artifact write" + STRUCK)).exists()
    again = run(tmp_path, {VARIABLE: str(tmp_path / "orders")})
    assert again.returncode == 0 and stored(tmp_path) == 2, "an order strikes once"


def test_nothing_is_struck_without_an_order_or_without_a_folder(tmp_path: Path) -> None:
    assert run(tmp_path, {VARIABLE: str(tmp_path / "orders")}).stdout.split() == ["first", "second"]
    (tmp_path / "orders" / "artifact write").write_text("kill before 0.0")
    assert run(tmp_path, {}).stdout.split() == ["first", "second"]


@pytest.mark.parametrize("how", ["fail before", "fail after"])
def test_a_write_fails_with_or_without_its_effect(tmp_path: Path, how: str) -> None:
    done: list[int] = []
    (tmp_path / "write").write_text(f"{how} 0.0")
    call = struck(done.append, tmp_path / "write")
    with pytest.raises(OSError, match=r"No space left|Input/output error"):
        call(1)
    assert done == ([] if how == "fail before" else [1])
    call(2)
    assert done[-1] == 2


@pytest.mark.parametrize("name", POINTS)
def test_every_point_is_a_call_that_there_is(name: str) -> None:
    point = POINTS[name]
    module = import_module(point.module)
    assert callable(getattr(getattr(module, point.owner) if point.owner else module, point.function))

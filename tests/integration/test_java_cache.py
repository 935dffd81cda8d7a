"""Java uses a cache that is right, and starts as without one where it is not: damaged, another's, or none.

That broker and registry start from theirs is shown where they are started anyway (`test_embedded`).
"""

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.long_forms import shortened
from tests.patience import patient
from tidemill.deploy.embedded.java_cache import JavaCache, JavaProgram
from tidemill.deploy.embedded.programs import java_programs

pytestmark = [pytest.mark.timeout(300), pytest.mark.lasts(20)]
MAIN = "kafka.tools.StorageTool"
FROM_CACHE = "source: shared objects file"


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> tuple[JavaProgram, JavaCache]:
    """A small program out of the broker's jars, with its cache: it prints a random id."""
    folder = tmp_path_factory.mktemp("tool")
    program = replace(java_programs().kafka, name="tool", main=MAIN)
    jars = []
    for jar in program.jars:  # Its own copies: a test makes them newer.
        jars.append(folder / jar.name)
        shutil.copy2(jar, jars[-1])
    program = replace(program, jars=tuple(jars))
    cache = JavaCache(folder, program)
    subprocess.run(program.command(cache.writing, arguments=["random-uuid"]), check=True, capture_output=True, timeout=patient(240))
    cache.accept()
    return program, cache


def loaded_from_cache(program: JavaProgram, cache: JavaCache, log: Path) -> bool:
    """Run the tool, hold what it prints to one id, and say whether its main class came from the cache."""
    command = program.command([*cache.reading, f"-Xlog:class+load:file={log}"], arguments=["random-uuid"])
    run = subprocess.run(command, capture_output=True, text=True, timeout=patient(120), check=False, cwd=log.parent)
    assert run.returncode == 0, (run.returncode, run.stdout, run.stderr)
    assert len(run.stdout.split()) == 1, run.stdout
    assert not run.stderr
    return FROM_CACHE in main_class_line(log, MAIN)


def main_class_line(log: Path, name: str) -> str:
    return next(line for line in log.read_text().splitlines() if f" {name} " in line)


@pytest.mark.long
def test_several_processes_use_one_cache_at_once(tool: tuple[JavaProgram, JavaCache], tmp_path: Path) -> None:
    program, cache = tool
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda number: loaded_from_cache(program, cache, tmp_path / f"{number}.log"), range(3))) == [True] * 3


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def replaced_by_junk(file: Path) -> None:
    file.write_bytes(random.Random(1).randbytes(1 << 20))


def zeroed_within(file: Path) -> None:
    with file.open("r+b") as content:
        content.seek(file.stat().st_size // 3)
        content.write(bytes(1 << 20))


def flipped_bytes(file: Path) -> None:
    """Without Java's own checksum this ends the process."""
    rng, size = random.Random(1), file.stat().st_size
    with file.open("r+b") as content:
        for at in sorted(rng.randrange(size) for _ in range(200)):
            content.seek(at)
            byte = content.read(1)
            content.seek(at)
            content.write(bytes([byte[0] ^ 255]))


@pytest.mark.parametrize("damage", shortened([cut, zeroed_within, Path.unlink, replaced_by_junk, flipped_bytes], 2))
def test_a_damaged_cache_is_not_used_and_harms_nobody(tool: tuple[JavaProgram, JavaCache], tmp_path: Path, damage: Callable[[Path], None]) -> None:
    program, whole = tool
    cache = JavaCache(tmp_path, program)
    shutil.copyfile(whole.path, cache.path)
    damage(cache.path)
    assert not loaded_from_cache(program, cache, tmp_path / "classes.log")


def test_the_cache_of_other_jars_is_not_used(tool: tuple[JavaProgram, JavaCache], tmp_path: Path) -> None:
    program, whole = tool
    newer = tmp_path / program.jars[0].name
    shutil.copyfile(program.jars[0], newer)
    other = replace(program, jars=(newer, *program.jars[1:]))
    cache = JavaCache(tmp_path, other)
    shutil.copyfile(whole.path, cache.path)
    assert not loaded_from_cache(other, cache, tmp_path / "classes.log")

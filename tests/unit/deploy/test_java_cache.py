"""A cache is found by what it was made from, appears whole or not at all, and is written by one process at a time."""

import multiprocessing
import os
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from tests.patience import patient
from tidemill.deploy.embedded.java_cache import JavaCache, JavaProgram, one_writer


@pytest.fixture
def program(tmp_path: Path) -> JavaProgram:
    jars = tuple(tmp_path / name for name in ("a.jar", "b.jar"))
    for jar in jars:
        jar.write_bytes(b"jar")
    return JavaProgram("server", ("-Xmx100m",), jars, "main.Main")


def test_the_file_follows_from_options_main_class_and_jars(tmp_path: Path, program: JavaProgram) -> None:
    first = JavaCache(tmp_path, program).path
    others = [
        replace(program, options=("-Xmx200m",)),
        replace(program, main="main.Other"),
        replace(program, jars=program.jars[::-1]),
        replace(program, jars=program.jars[:1]),
    ]
    assert JavaCache(tmp_path, replace(program)).path == first
    assert len({first, *(JavaCache(tmp_path, other).path for other in others)}) == 5
    status = program.jars[0].stat()
    os.utime(program.jars[0], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    later = JavaCache(tmp_path, program).path
    assert later != first
    program.jars[0].write_bytes(b"longer")
    os.utime(program.jars[0], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert JavaCache(tmp_path, program).path not in (first, later)


def test_it_follows_from_the_java_runtime(tmp_path: Path, program: JavaProgram, monkeypatch: pytest.MonkeyPatch) -> None:
    here = JavaCache(tmp_path, program).path
    runtime = tmp_path / "runtime"
    (runtime / "lib").mkdir(parents=True)
    (runtime / "lib" / "modules").touch()
    (runtime / "release").write_text('JAVA_VERSION="25.0.3"')
    monkeypatch.setattr("tidemill.deploy.embedded.java_cache._RUNTIME", runtime)
    assert JavaCache(tmp_path, program).path != here


def test_what_was_written_takes_its_place_and_drops_its_predecessors(tmp_path: Path, program: JavaProgram) -> None:
    cache, foreign = JavaCache(tmp_path, program), JavaCache(tmp_path, replace(program, name="other"))
    predecessor = JavaCache(tmp_path, replace(program, main="main.Old"))
    for file in (predecessor.path, foreign.path):
        file.touch()
    assert any(str(cache.partial) in option for option in cache.writing)
    assert not any(str(cache.path) == option.partition("=")[2] for option in cache.writing), "nobody may read what is half-written"
    cache.partial.write_bytes(b"classes")
    cache.accept()
    assert sorted(tmp_path.glob("*.aot*")) == sorted([cache.path, foreign.path])
    assert cache.path.read_bytes() == b"classes"


def test_a_server_that_wrote_nothing_is_no_cache(tmp_path: Path, program: JavaProgram) -> None:
    cache = JavaCache(tmp_path, program)
    with pytest.raises(FileNotFoundError):
        cache.accept()
    assert not cache.path.exists()


def test_what_a_killed_writer_left_is_removed(tmp_path: Path, program: JavaProgram) -> None:
    cache = JavaCache(tmp_path, program)
    cache.path.touch()
    left = cache.path.with_name(f"{cache.path.name}.1")
    left.touch()
    with one_writer(tmp_path):
        assert not left.exists()
        assert cache.path.exists()


def test_there_is_one_writer_at_a_time(tmp_path: Path) -> None:
    entered = multiprocessing.get_context("spawn").Event()
    other = multiprocessing.get_context("spawn").Process(target=enter, args=(tmp_path, entered))
    with one_writer(tmp_path):
        other.start()
        assert not entered.wait(1.0)
    assert entered.wait(patient(30))
    other.join(patient(30))
    assert other.exitcode == 0


def enter(folder: Path, entered: Event) -> None:
    with one_writer(folder):
        entered.set()

"""A run is found by addresses, else by its folder; whether it runs is asked of its process, not of its pid alone."""

import os
from pathlib import Path

import psutil
import pytest

from tidemill.deploy.embedded.infrastructure import VARIABLES
from tidemill.runs.instance import FILE, Instance, InstanceError, find_instance, read_instance

ADDRESSES = dict(zip(VARIABLES, ("kafka:9092", "http://registry", "redis://redis"), strict=True))


def instance(pid: int, started: float) -> Instance:
    return Instance("application", "live", ADDRESSES, "artifacts", "servers", pid, started)


def test_what_is_written_is_read_and_says_whether_it_runs(tmp_path: Path) -> None:
    assert read_instance(tmp_path) is None
    mine = instance(os.getpid(), psutil.Process().create_time())
    mine.write(tmp_path)
    assert read_instance(tmp_path) == mine and mine.runs
    assert not instance(os.getpid(), psutil.Process().create_time() - 60).runs, "the pid is somebody else's by now"
    assert not instance(2**22 + 1, 0.0).runs and not mine.ended().runs


def test_addresses_come_first_and_half_a_set_is_refused(tmp_path: Path) -> None:
    instance(1, 0.0).write(tmp_path)
    given = {name: "other" for name in VARIABLES}
    assert find_instance(tmp_path, {**given, "TIDEMILL_ARTIFACTS__URI": "there"}) == Instance("", "", given, "there")
    assert find_instance(tmp_path, {}).addresses == ADDRESSES
    with pytest.raises(InstanceError, match=VARIABLES[1]):
        find_instance(tmp_path, {VARIABLES[0]: "x"})
    with pytest.raises(InstanceError, match=r"found none\. Start one with `tidemill up`"):
        find_instance(tmp_path / "nowhere", {})


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"a": 1}')
    with pytest.raises(InstanceError, match="expected what `tidemill up` writes"):
        read_instance(tmp_path)

"""Tables that need not fit into memory: small ones lie there, large ones in a file that has its room on the disk."""

import errno
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from tidemill.shared.mapped_memory import mapped_words

ROOM = (3 << 20, 4)


def test_a_large_table_lies_in_a_file_that_has_all_its_blocks(tmp_path: Path) -> None:
    before = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    large, small = mapped_words(ROOM, tmp_path / "new"), mapped_words((1_024, 4), tmp_path / "other")
    taken = before - os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    assert isinstance(large, np.memmap) and not isinstance(small, np.memmap) and not (tmp_path / "other").exists()
    assert not large[::100_000].any() and not small.any() and large.flags.writeable
    assert taken > large.nbytes / 2, "a page that found no room later would end the process"
    assert list((tmp_path / "new").iterdir()) == [], "the file has no name"


def test_a_full_disk_costs_memory_and_not_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with caplog.at_level(logging.WARNING):
        table = mapped_words(ROOM, tmp_path)
    table[-1] = 7
    assert not isinstance(table, np.memmap) and table.shape == ROOM and table[:-1:1_000].sum() == 0
    assert [record.getMessage() for record in caplog.records] == ["no file for a table: it lies in memory"]

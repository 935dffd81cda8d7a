"""Files that are read whole, and maybe more than once: a pipe, a device or a socket is none."""

import errno
import stat
from pathlib import Path

_OTHERS = {
    stat.S_IFIFO: "a pipe, which may never end and can be read once: write what it gives to a file",
    stat.S_IFSOCK: "a socket: write what it gives to a file",
    stat.S_IFCHR: "a device: write what it gives to a file",
    stat.S_IFBLK: "a disk: name a file on it",
}


def regular_file(path: Path) -> Path:
    """Return a path that is no pipe, device or socket, links followed; opening a pipe that nobody writes to would never come back.

    A folder is passed on: whoever reads it says so.

    Raises
    ------
    OSError
        With the path, and what was found there; also when nothing is.
    """
    found = _OTHERS.get(stat.S_IFMT(path.stat().st_mode))
    if found is not None:
        raise OSError(errno.EINVAL, found, str(path))
    return path

"""LightGBM's OpenMP runtime on a machine that has none: ``python -m tidemill.deploy.embedded.openmp``, once after the packages are installed.

LightGBM's wheel expects the system's `libgomp.so.1`, which a minimal Debian lacks and only root can install. scikit-learn's wheel carries
the same library under another name. This command copies it into the virtual environment under the expected name (the name a library is
known by to the loader is its SONAME, so that is rewritten in the copy) and has the environment load it whenever Python starts.
Does nothing where the system has the library, or when it is done already.
"""

import ctypes
import subprocess
import sys
import sysconfig
from pathlib import Path

SONAME = b"libgomp.so.1"
HOOK = "tidemill_openmp.pth"


class OpenMPError(RuntimeError):
    """There is no OpenMP runtime and none could be put in place."""


def is_available() -> bool:
    """Say whether a fresh process of this environment finds the library."""
    program = f"import ctypes; ctypes.CDLL({SONAME.decode()!r})"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


def renamed(library: bytes, old: bytes) -> bytes:
    """Give the library under the expected SONAME.

    Raises
    ------
    OpenMPError
        The old name is not in the library's string table, or is too short to hold the new one.
    """
    if len(old) < len(SONAME) or b"\0" + old + b"\0" not in library:
        raise OpenMPError(f"expected the name {old.decode()} in the library, found none that can become {SONAME.decode()}")
    return library.replace(b"\0" + old + b"\0", b"\0" + SONAME.ljust(len(old), b"\0") + b"\0")


def provide(packages: Path) -> Path:
    """Put the copy and the hook into an environment's package folder and give the copy's path.

    Raises
    ------
    OpenMPError
        scikit-learn's wheel does not carry the library.
    """
    sources = sorted((packages / "scikit_learn.libs").glob("libgomp*.so*"))
    if not sources:
        raise OpenMPError(f"expected scikit-learn's libgomp in {packages / 'scikit_learn.libs'}, found none: install the system package libgomp1")
    folder = packages / "tidemill.libs"
    folder.mkdir(exist_ok=True)
    copy = folder / SONAME.decode()
    copy.write_bytes(renamed(sources[0].read_bytes(), sources[0].name.encode()))
    ctypes.CDLL(str(copy), mode=ctypes.RTLD_GLOBAL)
    (packages / HOOK).write_text(f"import ctypes; ctypes.CDLL({str(copy)!r}, mode=ctypes.RTLD_GLOBAL)\n", encoding="utf-8")
    return copy


def main() -> None:
    """Provide the library where it is missing."""
    if is_available():
        return
    copy = provide(Path(sysconfig.get_path("purelib")))
    if not is_available():
        raise OpenMPError(f"expected {copy} to be found as {SONAME.decode()}, it is not: install the system package libgomp1")
    sys.stderr.write(f"This machine has no {SONAME.decode()}: using scikit-learn's copy, {copy}\n")


if __name__ == "__main__":
    main()

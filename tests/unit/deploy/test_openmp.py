"""The OpenMP copy is a loadable library known by the name LightGBM asks for."""

import ctypes
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tidemill.deploy.embedded.openmp import HOOK, OpenMPError, provide, renamed

PACKAGES = Path(sysconfig.get_path("purelib"))


def test_the_copy_answers_to_the_system_name(tmp_path: Path) -> None:
    """A fresh process that has loaded the copy by its path is given it, too, when it asks for the bare name."""
    (tmp_path / "scikit_learn.libs").symlink_to(PACKAGES / "scikit_learn.libs")
    copy = provide(tmp_path)
    program = (
        f"import ctypes; ctypes.CDLL({str(copy)!r}, mode=ctypes.RTLD_GLOBAL); print(ctypes.CDLL('libgomp.so.1').omp_get_max_threads() > 0)\n"
        "print(sorted({line.split()[-1] for line in open('/proc/self/maps') if 'libgomp' in line}))"
    )
    answer = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines() == ["True", str([str(copy)])]
    assert str(copy) in (tmp_path / HOOK).read_text()
    assert ctypes.CDLL(str(copy)).omp_get_max_threads() > 0


def test_an_environment_without_the_library_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OpenMPError, match="libgomp1"):
        provide(tmp_path)


@pytest.mark.parametrize(("library", "old"), [(b"\0other.so\0", b"libgomp-e985.so.1.0.0"), (b"\0short.so\0", b"short.so")])
def test_a_library_that_cannot_be_renamed_is_refused(library: bytes, old: bytes) -> None:
    with pytest.raises(OpenMPError, match=old.decode()):
        renamed(library, old)


def test_renaming_keeps_every_other_byte() -> None:
    library = b"\x7fELF\0libgomp-abcd.so.1.0.0\0rest libgomp-abcd.so.1.0.0x\0"
    assert renamed(library, b"libgomp-abcd.so.1.0.0") == b"\x7fELF\0libgomp.so.1" + bytes(9) + b"\0rest libgomp-abcd.so.1.0.0x\0"

"""Builds the wheel, and the constraints that go with it: ``python -m tidemill.deploy.wheel``.

A wheel names what it needs without versions. `constraints.txt` beside it has those of the lock: ``pip install -c constraints.txt tidemill-*.whl``.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tidemill.deploy.install import LOCK, entries

_ROOT = LOCK.parent
_PIP_WHEEL = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]


def build(folder: Path) -> Path:
    """Build the wheel of what git knows (a checkout holds environments and data beside it), and return where it is.

    Raises
    ------
    subprocess.CalledProcessError
        git or pip failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as source, tempfile.TemporaryDirectory() as built:
        subprocess.run(["git", "checkout-index", "--all", f"--prefix={source}/"], cwd=_ROOT, check=True)
        subprocess.run([*_PIP_WHEEL, "--wheel-dir", built, source], check=True, capture_output=True, text=True, cwd=built)
        (wheel,) = Path(built).glob("tidemill-*.whl")
        target = folder / wheel.name
        target.write_bytes(wheel.read_bytes())
    return target


def constraints() -> str:
    """Return the versions of the lock, one a line, without hashes: pip takes hashes of everything or of nothing."""
    pins = [entry.splitlines()[0].split(";")[0].rstrip(" \\") for entry in entries(LOCK.read_text(encoding="utf-8")).values()]
    return "".join(f"{line}\n" for line in pins)


if __name__ == "__main__":
    wheel_file = build(_ROOT / "dist")
    (wheel_file.parent / "constraints.txt").write_text(constraints(), encoding="utf-8")
    print(f"{wheel_file.relative_to(_ROOT)}\n{(wheel_file.parent / 'constraints.txt').relative_to(_ROOT)}")

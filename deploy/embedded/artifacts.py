"""The Java archives of the embedded servers: pinned by version and SHA-256, fetched once, verified, remembered."""

import fcntl
import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tidemill.deploy.embedded.progress import FetchProgress

LOCK_FILE = Path(__file__).with_name("artifacts.lock")
PARALLEL_FETCHES = 4
TIMEOUT_S = 60


class ServerArchiveError(RuntimeError):
    """An archive is not what the lock file says, or could not be fetched."""


@dataclass(frozen=True, slots=True)
class ServerArchive:
    """One line of the lock file.

    Attributes
    ----------
    use
        The server it belongs to: `kafka` or `registry`.
    name
        `group:artifact`, or `group:artifact:classifier:packaging` when it is not a plain jar.
    """

    use: str
    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def read_lock(path: Path = LOCK_FILE) -> list[ServerArchive]:
    """Read the lock file: four words a line; empty lines and lines that begin with # are skipped.

    Raises
    ------
    ServerArchiveError
        A line is malformed; names file and line.
    """
    artifacts = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 4 or words[1].count(":") not in (1, 3) or len(words[3]) != 64:
            raise ServerArchiveError(f"{path}:{number}: expected 'use group:artifact[:classifier:packaging] version sha256', came {line!r}")
        artifacts.append(ServerArchive(*words))
    if not artifacts:
        raise ServerArchiveError(f"{path}: expected at least one artifact, the file has none")
    return artifacts


def fetch(artifacts: Sequence[ServerArchive], cache: Path) -> dict[ServerArchive, Path]:
    """Give the verified local file of every artifact, fetching what is missing.

    The verified files are recorded with size and modification time, so that the next call only looks at the files' attributes.

    Parameters
    ----------
    artifacts
        What the lock file names.
    cache
        Folder of the fetched files and of the record.

    Raises
    ------
    ServerArchiveError
        An artifact cannot be fetched, or its content is not the locked one even when fetched afresh.
    """
    with _locked(cache):
        record = cache / "verified.json"
        known = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
        paths = {artifact: Path(path) for artifact in artifacts if (path := _unchanged(known.get(artifact.sha256)))}
        missing = [artifact for artifact in artifacts if artifact not in paths]
        if missing:
            paths |= _fetch_all(missing, cache)
            for artifact in missing:
                known[artifact.sha256] = _attributes(paths[artifact])
            partial = record.with_suffix(".partial")
            partial.write_text(json.dumps(known, indent=1), encoding="utf-8")
            partial.replace(record)
    return {artifact: paths[artifact] for artifact in artifacts}


def sha256_of(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch_all(artifacts: Sequence[ServerArchive], cache: Path) -> dict[ServerArchive, Path]:
    paths: dict[ServerArchive, Path] = {}
    with FetchProgress(len(artifacts)) as progress, ThreadPoolExecutor(PARALLEL_FETCHES) as pool:
        futures = {pool.submit(_fetch_one, artifact, cache): artifact for artifact in artifacts}
        try:
            for future in as_completed(futures):
                artifact = futures[future]
                paths[artifact] = future.result()
                progress.done(str(artifact))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return paths


def _fetch_one(artifact: ServerArchive, cache: Path) -> Path:
    """Take the file from the user's own Maven repository when it is there and right, else fetch it (again, when it is wrong)."""
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext

    settings = GlobalSettings.load()
    remotes = {**settings.repositories, "central": MAVEN_CENTRAL_URL}
    group, name, *rest = artifact.name.split(":")
    classifier, packaging = rest or ("", "jar")
    sha256 = ""
    for local in ([settings.repo_cache], []):
        context = MavenContext(repo_cache=cache / "maven", local_repos=local, remote_repos=remotes, timeout=TIMEOUT_S)
        file = context.project(group, name).at_version(artifact.version).artifact(classifier=classifier, packaging=packaging)
        try:
            path = Path(file.resolve())
        except Exception as error:
            raise ServerArchiveError(f"{artifact}: could not be fetched ({error}). Is a Maven repository reachable from this machine?") from error
        sha256 = sha256_of(path)
        if sha256 == artifact.sha256:
            return path
        if path == file.cached_path:
            path.unlink()
    raise ServerArchiveError(f"{artifact}: expected SHA-256 {artifact.sha256}, came {sha256}. It was fetched twice and not used.")


def _attributes(path: Path) -> dict[str, str | int]:
    status = path.stat()
    return {"path": str(path), "size": status.st_size, "modified_ns": status.st_mtime_ns}


def _unchanged(entry: dict[str, str | int] | None) -> str | None:
    if entry is None:
        return None
    path = Path(str(entry["path"]))
    return str(path) if path.is_file() and _attributes(path) == entry else None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time fill the cache."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

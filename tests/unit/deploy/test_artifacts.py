"""What runs is what the lock file says, wherever it came from."""

import functools
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tidemill.deploy.embedded.artifacts import ServerArchive, ServerArchiveError, fetch, read_lock

CONTENT = b"not really a jar, but it has a hash"
RIGHT = ServerArchive("kafka", "org.example.group:thing", "1.2", hashlib.sha256(CONTENT).hexdigest())
PLACE = Path("org/example/group/thing/1.2/thing-1.2.jar")


class Repository:
    """A Maven repository in a folder, served over HTTP; counts the jars it has given out."""

    def __init__(self, folder: Path, server: ThreadingHTTPServer, requests: list[str]) -> None:
        self.folder = folder
        self.server = server
        self.requests = requests

    def publish(self, content: bytes) -> None:
        file = self.folder / PLACE
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.with_name(file.name + ".sha1").write_text(hashlib.sha1(content).hexdigest())

    @property
    def downloads(self) -> int:
        return sum(path.endswith(".jar") for path in self.requests)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """A repository that the user's own jgo settings name first; the home folder is a fresh one."""
    requests: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            requests.append(self.path)

    folder, home = tmp_path / "repository", tmp_path / "home"
    folder.mkdir()
    (home / ".config").mkdir(parents=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    (home / ".config" / "jgo.conf").write_text(f"[repositories]\nlocal = http://127.0.0.1:{server.server_address[1]}\n")
    monkeypatch.setenv("HOME", str(home))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield Repository(folder, server, requests)
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_committed_lock_names_both_servers_and_no_host() -> None:
    artifacts = read_lock()
    names = {artifact.name: artifact.version for artifact in artifacts}
    assert names["org.apache.kafka:kafka_2.13"] == "4.1.2"
    assert names["io.apicurio:apicurio-registry-app:all:tar.gz"] == "3.3.3"
    assert {artifact.use for artifact in artifacts} == {"kafka", "registry"}
    assert not any("://" in str(artifact) for artifact in artifacts)


@pytest.mark.parametrize(
    "line", ["kafka org.example:a 1", "kafka org.example 1 " + "0" * 64, "kafka org.example:a 1 abc", "kafka a:b:c 1 " + "0" * 64]
)
def test_a_malformed_lock_is_refused_with_file_and_line(tmp_path: Path, line: str) -> None:
    lock = tmp_path / "artifacts.lock"
    lock.write_text(f"# a comment\n\n{line}\n")
    with pytest.raises(ServerArchiveError, match=r"artifacts\.lock:3: expected"):
        read_lock(lock)


def test_an_empty_lock_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "artifacts.lock"
    lock.write_text("# nothing\n")
    with pytest.raises(ServerArchiveError, match="at least one"):
        read_lock(lock)


def test_fetched_once_then_taken_from_the_cache(tmp_path: Path, repository: Repository) -> None:
    repository.publish(CONTENT)
    cache = tmp_path / "cache"
    first = fetch([RIGHT], cache)
    assert first[RIGHT].read_bytes() == CONTENT
    assert repository.downloads == 1
    assert fetch([RIGHT], cache) == first
    assert repository.downloads == 1


def test_the_users_own_maven_repository_comes_first(tmp_path: Path, repository: Repository) -> None:
    own = tmp_path / "home" / ".m2" / "repository" / PLACE
    own.parent.mkdir(parents=True)
    own.write_bytes(CONTENT)
    assert fetch([RIGHT], tmp_path / "cache")[RIGHT] == own
    assert repository.downloads == 0


def test_a_wrong_file_in_the_users_repository_is_left_alone_and_not_used(tmp_path: Path, repository: Repository) -> None:
    repository.publish(CONTENT)
    own = tmp_path / "home" / ".m2" / "repository" / PLACE
    own.parent.mkdir(parents=True)
    own.write_bytes(b"tampered")
    path = fetch([RIGHT], tmp_path / "cache")[RIGHT]
    assert path != own
    assert path.read_bytes() == CONTENT
    assert own.read_bytes() == b"tampered"


def test_a_file_changed_after_verification_is_fetched_again(tmp_path: Path, repository: Repository) -> None:
    repository.publish(CONTENT)
    cache = tmp_path / "cache"
    path = fetch([RIGHT], cache)[RIGHT]
    path.write_bytes(CONTENT[:10])  # as a download cut short would leave it
    assert fetch([RIGHT], cache)[RIGHT].read_bytes() == CONTENT
    assert repository.downloads == 2


def test_a_file_with_another_hash_is_refused(tmp_path: Path, repository: Repository) -> None:
    repository.publish(b"something else")
    cache = tmp_path / "cache"
    with pytest.raises(ServerArchiveError, match=f"expected SHA-256 {RIGHT.sha256}, came {hashlib.sha256(b'something else').hexdigest()}"):
        fetch([RIGHT], cache)
    assert not list(cache.rglob("*.jar"))
    assert not (cache / "verified.json").exists()


def test_a_missing_artifact_names_itself(tmp_path: Path, repository: Repository) -> None:
    absent = ServerArchive("kafka", "org.example.group:absent", "9.9.tidemill", "0" * 64)
    with pytest.raises(ServerArchiveError, match=r"org\.example\.group:absent 9\.9\.tidemill: could not be fetched"):
        fetch([absent], tmp_path / "cache")


def test_the_record_survives_and_grows(tmp_path: Path, repository: Repository) -> None:
    repository.publish(CONTENT)
    cache = tmp_path / "cache"
    fetch([RIGHT], cache)
    other = repository.folder / "org/example/group/other/1/other-1.jar"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"other")
    second = ServerArchive("kafka", "org.example.group:other", "1", hashlib.sha256(b"other").hexdigest())
    fetch([second], cache)
    assert set(json.loads((cache / "verified.json").read_text())) == {RIGHT.sha256, second.sha256}

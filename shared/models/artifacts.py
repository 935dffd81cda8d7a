"""Models as content-addressed bytes: one file holds signature and ONNX graph, its SHA-256 is its name."""

import hashlib
import os
import struct
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem
from pydantic import ValidationError

from tidemill.shared.log.errors import ServerAwayError
from tidemill.shared.models.signature import Signature

_MAGIC = b"TMA1"
_LENGTH = struct.Struct(">I")


class ArtifactError(RuntimeError):
    """An artifact is missing, is not what its address says, or does not behave as its signature says."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model ready to be stored or served.

    Attributes
    ----------
    library_text
        The model as the library that made it writes it: for a training's record, no part of the file.
    """

    signature: Signature
    onnx: bytes
    library_text: str = field(default="", compare=False, repr=False)

    def to_bytes(self) -> bytes:
        """Return the file: magic, length of the signature, signature, graph."""
        signature = self.signature.to_json()
        return _MAGIC + _LENGTH.pack(len(signature)) + signature + self.onnx

    @classmethod
    def from_bytes(cls, content: bytes) -> "Artifact":
        """Read the file; raises ArtifactError."""
        if content[:4] != _MAGIC:
            raise ArtifactError(f"expected an artifact that begins with {_MAGIC!r}, found {content[:4]!r}")
        (length,) = _LENGTH.unpack_from(content, 4)
        try:
            return cls(Signature.model_validate_json(content[8 : 8 + length]), content[8 + length :])
        except ValidationError as error:
            raise ArtifactError(f"the artifact's signature does not validate: {error}") from error


def _write_durably(path: Path, part: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, whatever ends the machine."""
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    for folder in (path.parent, path.parent.parent):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


class ArtifactStore:
    """Artifacts by SHA-256 in a folder or an object store (any fsspec address)."""

    def __init__(self, uri: str) -> None:
        self._filesystem, self._root = fsspec.core.url_to_fs(uri)
        self._uri = uri.rstrip("/")

    @property
    def uri(self) -> str:
        """Address of the store."""
        return self._uri

    def put(self, content: bytes) -> str:
        """Store bytes and return their SHA-256; storing twice is storing once, and repairs what was damaged.

        In a folder the bytes are on the disk, under their name, when this returns: they go to a file of another name, are synced, take the name, and
        the folder is synced.

        Raises
        ------
        ServerAwayError
            The store does not answer, or is full.
        """
        address = hashlib.sha256(content).hexdigest()
        path = self._path(address)
        try:
            if self._holds(path, address):
                return address
            folder, part = self._filesystem._parent(path), f"{path}.{uuid.uuid4().hex}.part"  # noqa: SLF001 - fsspec's own way to a parent
            self._filesystem.makedirs(folder, exist_ok=True)
            if isinstance(self._filesystem, LocalFileSystem):
                _write_durably(Path(path), Path(part), content)
            else:
                self._filesystem.pipe_file(part, content)
                self._filesystem.mv(part, path)
        except OSError as error:
            raise ServerAwayError(f"artifact {address} to {self._uri}: {error}") from error
        return address

    def get(self, address: str) -> bytes:
        """Return the bytes of an address, verified; raises ArtifactError, and ServerAwayError when the store does not answer."""
        try:
            content: bytes = self._filesystem.cat_file(self._path(address))
        except FileNotFoundError as error:
            raise ArtifactError(f"no artifact {address} in {self._uri}") from error
        except OSError as error:
            raise ServerAwayError(f"artifact {address} in {self._uri}: {error}") from error
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 != address:
            raise ArtifactError(f"artifact {address} in {self._uri} has the SHA-256 {sha256}: it was changed or damaged")
        return content

    def _holds(self, path: str, address: str) -> bool:
        try:
            return hashlib.sha256(self._filesystem.cat_file(path)).hexdigest() == address
        except FileNotFoundError:
            return False

    def addresses(self) -> list[str]:
        """Return the addresses of all that is stored, in their order; raises ServerAwayError when the store does not answer."""
        try:
            files = self._filesystem.glob(f"{self._root}/??/" + "?" * 64)
        except OSError as error:
            raise ServerAwayError(f"artifacts in {self._uri}: {error}") from error
        return sorted(str(path).rpartition("/")[2] for path in files)

    def uri_of(self, address: str) -> str:
        """Return where an artifact lies."""
        return f"{self._uri}/{address[:2]}/{address}"

    def _path(self, address: str) -> str:
        return f"{self._root}/{address[:2]}/{address}"

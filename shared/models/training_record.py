"""What a training was made of: everything that is needed to make its model again, kept beside the artifacts."""

import json
from collections.abc import Iterator
from typing import Any

import fsspec
from pydantic import BaseModel, ConfigDict, ValidationError

from tidemill.shared.log.errors import ServerAwayError
from tidemill.shared.models.artifacts import ArtifactError

_FOLDER = "records"
_ENDING = ".json"


class TrainingRecord(BaseModel):
    """One training.

    Attributes
    ----------
    artifact_sha256
        Address of the model that came of it.
    request
        What the training was asked, without addresses: the decision, champion and predecessor by their hashes, the serving recipe, levels spent.
    dataset
        Delta versions of vectors and outcomes, cut, rows and the SHA-256 of their content.
    application_hash, application
        The application: the digest that plans have, and its files, text by path.
    application_root
        The application's folder among those paths; files that it shares with others may lie beside it.
    environment
        Code, lock file, packages, Python, architecture and CPU features (`training_environment`).
    split
        Instants that part learning, validation and gate, in milliseconds.
    trials
        Every trial of the search: its parameters, losses by stretch and what became of it. Empty where nothing was searched.
    passed, reason
        The verdict.
    library_text
        The model as its own library writes it, where it has such a form (LightGBM).
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str
    version: str
    artifact_sha256: str
    request: dict[str, Any]
    dataset: dict[str, str]
    application_hash: str
    application: dict[str, str]
    application_root: str = "."
    environment: dict[str, str]
    split: dict[str, int] = {}
    trials: list[dict[str, Any]] = []
    passed: bool = True
    reason: str = ""
    details: dict[str, str] = {}
    library_text: str = ""


class TrainingRecords:
    """Records by model and version, below the address of the artifacts (any fsspec address).

    A version that was judged a second time, against another champion, has the record of the last time.
    """

    def __init__(self, artifacts: str) -> None:
        self._filesystem, root = fsspec.core.url_to_fs(artifacts)
        self._root = f"{root.rstrip('/')}/{_FOLDER}"

    def put(self, record: TrainingRecord) -> None:
        """Write a record; raises ServerAwayError when the store does not answer or is full."""
        path = self._path(record.model, record.version)
        try:
            self._filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._filesystem.pipe_file(f"{path}.part", record.model_dump_json().encode())
            self._filesystem.mv(f"{path}.part", path)
        except OSError as error:
            raise ServerAwayError(f"record of {record.model}@{record.version} to {self._root}: {error}") from error

    def get(self, model: str, version: str) -> TrainingRecord | None:
        """Return a version's record, None of one without; raises ArtifactError of a damaged one, ServerAwayError when the store does not answer."""
        try:
            return TrainingRecord.model_validate_json(self._filesystem.cat_file(self._path(model, version)))
        except FileNotFoundError:
            return None
        except (ValidationError, json.JSONDecodeError) as error:
            raise ArtifactError(f"the record of {model}@{version} in {self._root} is damaged: {error}") from error
        except OSError as error:
            raise ServerAwayError(f"record of {model}@{version} in {self._root}: {error}") from error

    def names(self) -> Iterator[tuple[str, str]]:
        """Yield model and version of all records, in the order of their names."""
        for path in sorted(map(str, self._filesystem.glob(f"{self._root}/*/*{_ENDING}"))):
            folder, _, name = path.rpartition("/")
            yield folder.rpartition("/")[2], name.removesuffix(_ENDING)

    def _path(self, model: str, version: str) -> str:
        return f"{self._root}/{model}/{version}{_ENDING}"

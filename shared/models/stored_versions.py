"""A version's artifact, found by its name."""

from tidemill.shared.models.artifacts import Artifact, ArtifactStore
from tidemill.shared.models.training_record import TrainingRecords


class UnknownVersionError(LookupError):
    """The store of models has no such version: the message says which it has."""


def artifact_of(store: ArtifactStore, name: str, version: str) -> Artifact:
    """Return a version's artifact by the address that its training's record tells; of one without a record by looking at all.

    Raises
    ------
    UnknownVersionError
        The store has no such version.
    ArtifactError, TransientError
    """
    record = TrainingRecords(store.uri).get(name, version)
    if record is not None:
        return Artifact.from_bytes(store.get(record.artifact_sha256))
    made = {(one.signature.model, one.signature.version): one for one in (Artifact.from_bytes(store.get(address)) for address in store.addresses())}
    if (name, version) not in made:
        have = ", ".join(known for owner, known in made if owner == name) or "none"
        raise UnknownVersionError(f"expected the version {version} of {name} in {store.uri}, found {have}; another store: --artifacts")
    return made[name, version]

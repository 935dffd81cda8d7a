"""Everything that a model card says, gathered from the artifact, the archive and the registry beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tidemill.cards.answers import LabelledAnswers, Service, labelled, services
from tidemill.cards.drift import FeatureMove, moved
from tidemill.cards.history import VersionHistory, version_history
from tidemill.services.retraining.domain.examples import DAY_MS
from tidemill.shared.application.plan import ModelPlan, Plan
from tidemill.shared.lake.tables import Lake
from tidemill.shared.models.artifacts import Artifact, ArtifactStore
from tidemill.shared.models.registry import ModelRegistry, RegisteredVersion
from tidemill.shared.models.signature import Signature
from tidemill.shared.models.training_record import TrainingRecord, TrainingRecords


class UnknownModelError(LookupError):
    """There is no such model or version: the message says which there are."""


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card is made of.

    Attributes
    ----------
    signature, sha256, size
        Of the artifact; its bytes.
    services
        How it answered; empty of a version that never did.
    since
        Its labelled answers, with the columns of slices and of fairness.
    registered
        What the registry says; None where there is none beside the archive, or it does not know the version.
    record
        What makes it again; None of a version from before records were kept.
    moved
        Features, by how far they have moved since.
    history
        Stages, events of the lifecycle log, trials and incidents.
    """

    plan: Plan
    model: ModelPlan
    signature: Signature
    sha256: str
    size: int
    services: list[Service]
    since: LabelledAnswers
    registered: RegisteredVersion | None
    record: TrainingRecord | None
    moved: list[FeatureMove]
    history: VersionHistory

    @property
    def details(self) -> Mapping[str, str]:
        """What the training wrote down, in artifact, record and registry."""
        return {**self.signature.details, **(self.record.details if self.record else {}), **(self.registered.tags if self.registered else {})}


def versions_of(store: ArtifactStore, model: str) -> dict[str, tuple[str, Artifact, int]]:
    """Return the artifacts of a model by version, in the order in which they learned: address, artifact, bytes."""
    versions = []
    for address in store.addresses():
        content = store.get(address)
        artifact = Artifact.from_bytes(content)
        if artifact.signature.model == model:
            versions.append((int(artifact.signature.details.get("learned_until_ms", 0)), artifact.signature.version, address, artifact, len(content)))
    return {version: (address, artifact, size) for _, version, address, artifact, size in sorted(versions, key=lambda one: one[:3])}


def gather(plan: Plan, name: str, version: str | None, lake: Lake, store: ArtifactStore, registry: Path | None) -> CardFacts:
    """Gather the facts of a version; the newest one that answered when none is named.

    Parameters
    ----------
    registry
        File of MLflow's store.

    Raises
    ------
    UnknownModelError
        There is no such model or version.
    """
    if name not in plan.models:
        raise UnknownModelError(f"expected one of the application's models {', '.join(plan.models)}, got {name}")
    model, known = plan.models[name], versions_of(store, name)
    if not known:
        raise UnknownModelError(f"expected a version of {name} in the store of models, found none: nothing was trained yet, or look at --artifacts")
    if version is None:
        version = next((one for one in reversed(known) if services(lake, name, one)), list(known)[-1])
    if version not in known:
        raise UnknownModelError(f"expected a version of {name} ({', '.join(known)}), got {version}")
    address, artifact, size = known[version]
    model = model.with_classes(artifact.signature.classes)
    fairness = model.settings.gate.fairness
    columns = list(dict.fromkeys([*model.settings.slices, *(fairness.columns if fairness else ())]))
    answered = services(lake, name, version)
    registered = ModelRegistry(f"sqlite:///{registry.absolute()}").version(plan.application.app, name, version) if registry is not None else None
    record = TrainingRecords(store.uri).get(name, version)
    details = artifact.signature.details
    until, days = int(details.get("learned_until_ms", 0)), int(details.get("window_days", 0))
    span = (until - days * DAY_MS if days else -(1 << 40), until)
    served = (answered[0].first_ms, max(one.last_ms for one in answered) + 1) if answered else (0, 0)
    shifted = moved(lake, model.features, model.ask, span, served)
    since = labelled(lake, model, version, columns)
    told = version_history(lake, name, version)
    return CardFacts(plan, model, artifact.signature, address, size, answered, since, registered, record, shifted, told)

"""Trains every version of a run again, in processes side by side."""

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tidemill.offline.reproduced_version import ReproducedVersion
from tidemill.services.retraining.processes.child_pool import ChildDeath, ChildPool, ChildTask
from tidemill.shared.models.artifacts import Artifact, ArtifactStore
from tidemill.shared.models.training_record import TrainingRecords


def trained_versions(artifacts: str, models: Sequence[str]) -> tuple[list[tuple[str, str]], list[ReproducedVersion]]:
    """Return model and version of every training of these models on record, and the versions of whose models none is.

    Raises
    ------
    ArtifactError
        A model in the store is damaged.
    TransientError
        The store does not answer.
    """
    recorded = [one for one in TrainingRecords(artifacts).names() if one[0] in models]
    store, known, names = ArtifactStore(artifacts), set(recorded), set()
    for address in store.addresses():
        signature = Artifact.from_bytes(store.get(address)).signature
        if signature.model in models and (signature.model, signature.version) not in known:
            names.add((signature.model, signature.version))
    reason = f"expected a training record in {artifacts}, found the model alone: it was lost, or trained before records were kept"
    return recorded, [ReproducedVersion(model, version, "unrecorded", reason) for model, version in sorted(names)]


def reproduce_all(
    application: Path, lake: str, artifacts: str, versions: Sequence[tuple[str, str]], jobs: int, told: Callable[[ReproducedVersion], None]
) -> list[ReproducedVersion]:
    """Train versions again side by side, each as `reproduce` does; a process that dies costs its own version alone.

    Parameters
    ----------
    application
        Folder of the application as it is now.
    jobs
        Processes; a training of boosted trees has two threads of its own, whose number is part of the result.
    told
        Of each version as it ends.

    Returns
    -------
    list of ReproducedVersion
        In the order of `versions`.
    """
    reproduced: dict[str, ReproducedVersion] = {}

    def done(task: ChildTask, result: str | ChildDeath) -> None:
        model, version = versions[int(task.name)]
        if isinstance(result, ChildDeath):
            made = ReproducedVersion(model, version, "failed", _words(result))
        else:
            made = ReproducedVersion.of_json(json.loads(result))
        reproduced[task.name] = made
        told(made)

    with tempfile.TemporaryDirectory(prefix="tidemill-reproduce-all-") as made:
        folder = Path(made)
        places = {"application": str(application.absolute()), "lake": lake, "artifacts": artifacts}
        tasks = [
            ChildTask(str(number), json.dumps({**places, "model": model, "version": version}), folder / f"result-{number}.json")
            for number, (model, version) in enumerate(versions)
        ]
        ChildPool("tidemill.offline.reproduce_worker", folder, jobs).run(tasks, done)
    return [reproduced[task.name] for task in tasks]


def _words(death: ChildDeath) -> str:
    if death.exit_code is not None and death.exit_code < 0:
        return f"its process was ended by signal {-death.exit_code}; 9 is mostly too little memory: fewer --jobs"
    return f"its process ended with {death.exit_code}: {death.last_line}"

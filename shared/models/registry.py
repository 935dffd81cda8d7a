"""Model registry and experiment tracking (MLflow), written once per decision."""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidemill.shared.models.registry_database import make_database

_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A version as the registry has it: what was written of its training, and when it served."""

    tags: Mapping[str, str]
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]


class ModelRegistry:
    """Runs and model versions of one application in an MLflow store.

    MLflow takes seconds to load, so it is imported here only when needed, in the training process.

    Parameters
    ----------
    uri
        A tracking server's address or ``sqlite:///file``.
    """

    def __init__(self, uri: str) -> None:
        from mlflow import MlflowClient

        for chatty in ("alembic", "mlflow.store.db.utils"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        self._artifacts: str | None = None
        if uri.startswith("sqlite:///"):
            folder = Path(uri.removeprefix("sqlite:///")).absolute().parent
            folder.mkdir(parents=True, exist_ok=True)
            # Beside the database: MLflow's own default is below whatever folder a process happens to run in.
            self._artifacts = (folder / "mlflow-artifacts").as_uri()
            make_database(Path(uri.removeprefix("sqlite:///")))
        self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def record(
        self,
        app: str,
        model: str,
        version: str,
        artifact_uri: str,
        tags: Mapping[str, str],
        parameters: Mapping[str, Any],
        metrics: Mapping[str, float],
        description: str = "",
        about: str = "",
        dataset: Mapping[str, Any] | None = None,
        documents: Mapping[str, Mapping[str, Any]] | None = None,
        tables: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Record a training as a run and its model as a version; recording it again, also after a crash half-way, leaves one of each.

        Parameters
        ----------
        tags
            Must hold `decision_id`: what makes a record the same. Those of the last call stand (a candidate may be judged again).
        description, about
            What MLflow shows of the version, and of the model as a whole.
        dataset
            `name`, `sha256` of the content, `source` (where it lies) and `profile` (how large it is): the run's input.
        documents
            JSON files among the run's artifacts, by name.
        tables
            Further ones, of `columns` and rows of `data`, which MLflow shows as tables.
        """
        experiment = self._client.get_experiment_by_name(app)
        number = experiment.experiment_id if experiment is not None else self._client.create_experiment(app, self._artifacts)
        known = self._client.search_runs([number], f"tags.decision_id = '{tags['decision_id']}'")
        run = known[0] if known else self._client.create_run(number, run_name=version, tags=dict(tags))
        identity = run.info.run_id
        told = {**tags, **_shown(tags, description, tables or {})}
        self._write(run, told, {name: str(value) for name, value in parameters.items()}, metrics)
        if dataset is not None and not known:
            self._client.log_inputs(identity, [_input(dataset)])
        for name, document in {**(documents or {}), **(tables or {})}.items():
            self._client.log_dict(identity, dict(document), name)
        name = f"{app}.{model}"
        if not self._client.search_registered_models(f"name = '{name}'"):
            self._client.create_registered_model(name, tags={"owner": tags.get("owner", "")})
        self._client.update_registered_model(name, about)
        versions = self._client.search_model_versions(f"run_id = '{identity}'")
        described = {**tags, "version": version}
        own = versions[0] if versions else self._client.create_model_version(name, artifact_uri, identity, tags=described)
        self._client.update_model_version(name, own.version, description)
        for tag, value in described.items():
            if own.tags.get(tag) != value:
                self._client.set_model_version_tag(name, own.version, tag, value)
        self._client.set_terminated(identity)

    def _write(self, run: Any, tags: Mapping[str, str], parameters: Mapping[str, str], metrics: Mapping[str, float]) -> None:  # MLflow is untyped
        """Write what a run does not hold yet, by the hundred: a call for each name reads the run anew and commits."""
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1_000)
        new: list[Any] = [Metric(name, value, now, 0) for name, value in metrics.items() if run.data.metrics.get(name) != value]
        new += [Param(name, value) for name, value in parameters.items() if run.data.params.get(name) != value]
        new += [RunTag(name, value) for name, value in tags.items() if run.data.tags.get(name) != value]
        for begin in range(0, len(new), _AT_ONCE):
            some = new[begin : begin + _AT_ONCE]
            batch = {"metrics": Metric, "params": Param, "tags": RunTag}
            self._client.log_batch(run.info.run_id, **{field: [one for one in some if isinstance(one, of)] for field, of in batch.items()})

    def deployed(self, app: str, model: str, times: Mapping[str, Mapping[str, str]], champion: str) -> None:
        """Take over from the lifecycle log when which version went into and out of service, and which one serves.

        Parameters
        ----------
        times
            By version: when it was tried and served (`promoted_at`, `retired_at`, `canary_at`, `ab_at` and others), ISO 8601, and in an A/B test
            against which version.
        champion
            Gets the alias ``champion``.

        Raises
        ------
        LookupError
            A version is not in the registry (its record may still be on its way).
        """
        name = f"{app}.{model}"
        numbers = {one.tags.get("version"): one.version for one in self._client.search_model_versions(f"name = '{name}'")}
        for version, tags in times.items():
            if version not in numbers:
                raise LookupError(f"expected version {version} of {name} in the registry, found {sorted(filter(None, numbers))}")
            for tag, value in tags.items():
                self._client.set_model_version_tag(name, numbers[version], tag, value)
        self._client.set_registered_model_alias(name, "champion", numbers[champion])

    def version(self, app: str, model: str, version: str) -> RegisteredVersion | None:
        """Return what is known of a version; None when nothing is."""
        versions = self._client.search_model_versions(f"name = '{app}.{model}' and tags.version = '{version}'")
        if not versions or versions[0].run_id is None:
            return None
        run = self._client.get_run(versions[0].run_id)
        return RegisteredVersion(dict(versions[0].tags), dict(run.data.params), dict(run.data.metrics))


def _shown(tags: Mapping[str, str], description: str, tables: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags by which MLflow's pages say who has made a run, by what, why, and which of its files are tables."""
    listed = [{"path": name, "type": "table"} for name in tables]
    return {
        "mlflow.user": tags.get("owner", ""),
        "mlflow.source.name": "tidemill retraining",
        "mlflow.source.type": "JOB",
        "mlflow.note.content": description,
        **({"mlflow.loggedArtifacts": json.dumps(listed)} if listed else {}),
    }


def _input(dataset: Mapping[str, Any]) -> Any:  # MLflow is untyped
    """Return a training set as MLflow shows it; its digest takes 36 characters."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source, profile = json.dumps(dataset["source"]), json.dumps(dataset["profile"])
    described = Dataset(dataset["name"], dataset["sha256"][:36], "delta", source, profile=profile)
    return DatasetInput(described, [InputTag("mlflow.data.context", "training"), InputTag("sha256", dataset["sha256"])])

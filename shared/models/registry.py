"""Model registry and experiment tracking (MLflow), written once per decision."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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

        logging.getLogger("alembic").setLevel(logging.WARNING)
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
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
    ) -> None:
        """Record a training as a run and its model as a version; recording it again, also after a crash half-way, leaves one of each.

        Parameters
        ----------
        tags
            Must hold `decision_id`: what makes a record the same. Those of the last call stand (a candidate may be judged again).
        """
        experiment = self._client.get_experiment_by_name(app)
        number = experiment.experiment_id if experiment is not None else self._client.create_experiment(app)
        known = self._client.search_runs([number], f"tags.decision_id = '{tags['decision_id']}'")
        run = known[0] if known else self._client.create_run(number, run_name=version, tags=dict(tags))
        identity = run.info.run_id
        for name, value in tags.items():
            self._client.set_tag(identity, name, value)
        for name, value in parameters.items():
            self._client.log_param(identity, name, value)
        for name, measured in metrics.items():
            if run.data.metrics.get(name) != measured:
                self._client.log_metric(identity, name, measured)
        name = f"{app}.{model}"
        if not self._client.search_registered_models(f"name = '{name}'"):
            self._client.create_registered_model(name, tags={"owner": tags.get("owner", "")})
        versions = self._client.search_model_versions(f"run_id = '{identity}'")
        own = versions[0] if versions else self._client.create_model_version(name, artifact_uri, identity)
        for tag, value in {**tags, "version": version}.items():
            self._client.set_model_version_tag(name, own.version, tag, value)
        self._client.set_terminated(identity)

    def deployed(self, app: str, model: str, times: Mapping[str, Mapping[str, str]], champion: str) -> None:
        """Take over from the lifecycle log when which version went into and out of service, and which one serves.

        Parameters
        ----------
        times
            By version: `promoted_at`, `retired_at`, `rolled_back_at`, `restored_at`, ISO 8601.
        champion
            Gets the alias ``champion``.

        Raises
        ------
        LookupError
            A version is not in the registry (its record may still be on its way).
        """
        name = f"{app}.{model}"
        numbers = {found.tags.get("version"): found.version for found in self._client.search_model_versions(f"name = '{name}'")}
        for version, tags in times.items():
            if version not in numbers:
                raise LookupError(f"expected version {version} of {name} in the registry, found {sorted(filter(None, numbers))}")
            for tag, value in tags.items():
                self._client.set_model_version_tag(name, numbers[version], tag, value)
        self._client.set_registered_model_alias(name, "champion", numbers[champion])

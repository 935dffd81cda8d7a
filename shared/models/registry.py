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
        """Record a training as a run and its model as a version; recording it again changes nothing.

        Parameters
        ----------
        tags
            Must hold `decision_id`: what makes a record the same.
        """
        experiment = self._client.get_experiment_by_name(app)
        number = experiment.experiment_id if experiment is not None else self._client.create_experiment(app)
        decision = tags["decision_id"]
        known = self._client.search_runs([number], f"tags.decision_id = '{decision}' and tags.complete = 'yes'")
        if known:
            return
        run = self._client.create_run(number, run_name=version, tags=dict(tags))
        identity = run.info.run_id
        for name, value in parameters.items():
            self._client.log_param(identity, name, value)
        for name, measured in metrics.items():
            self._client.log_metric(identity, name, measured)
        name = f"{app}.{model}"
        if not self._client.search_registered_models(f"name = '{name}'"):
            self._client.create_registered_model(name, tags={"owner": tags.get("owner", "")})
        registered = self._client.create_model_version(name, artifact_uri, identity, tags={**tags, "version": version})
        if "promoted_at" in tags:
            self._client.set_registered_model_alias(name, "champion", registered.version)
        self._client.set_terminated(identity)
        self._client.set_tag(identity, "complete", "yes")

"""What a model registry is told of a training: a record that ties a version to its data, code, figures and streams."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tidemill.services.retraining.domain.recipe import Recipe
from tidemill.services.retraining.domain.verdict import GateVerdict
from tidemill.services.retraining.processes.job_files import JobRequest
from tidemill.shared.application.lineage import lineage_of
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.times import instant_text
from tidemill.shared.lake.names import OUTCOMES, VECTORS
from tidemill.shared.lake.tables import Lake


def registration(
    request: JobRequest,
    plan: Plan,
    version: str,
    verdict: GateVerdict,
    uri: str,
    address: str,
    figures: Mapping[str, float],
    details: Mapping[str, str],
    recipe: Recipe,
    trials: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the arguments of `ModelRegistry.record` as plain data.

    Parameters
    ----------
    uri, address
        Where the artifact lies, and its SHA-256.
    figures, details
        The training's record. What is a parameter of the recipe becomes a parameter, the rest tags.
    trials
        Of its search, as `tidemill.services.retraining.domain.search` describes them; none of a refit.
    """
    asked = request.retraining
    model = plan.models[asked["model"]]
    tags = {
        "decision_id": asked["decision_id"],
        "trigger": asked["trigger"],
        "owner": plan.application.owner_of("models", model.name),
        "artifact_sha256": address,
        "gate": "passed" if verdict.passed else "refused",
        "reason": verdict.reason,
        **{name: value for name, value in details.items() if name not in recipe.parameters},
    }
    metrics = {name: value for name, value in figures.items() if np.isfinite(value)}
    lineage = lineage_document(plan, model.name)
    return {
        "model": model.name,
        "version": version,
        "artifact_uri": uri,
        "tags": tags,
        "parameters": {name: str(value) for name, value in recipe.parameters.items()},
        "metrics": metrics,
        "description": f"{tags['gate']}: {verdict.reason}",
        "about": model.settings.card.intended_use,
        "dataset": _dataset(request, plan, model.name, details),
        "documents": {
            "lineage.json": lineage,
            "record.json": {"version": version, "tags": tags, "parameters": dict(recipe.parameters), "figures": metrics},
        },
        "tables": {"trials.json": trials_table(trials)} if trials else {},
    }


def trials_table(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the trials of a search as a table, `columns` and rows of `data`: number, state, mean loss over its stretches, every parameter.

    >>> trials_table([{"number": 0, "state": "complete", "parameters": {"family": "lightgbm"}, "losses": [0.5, 0.3]}])
    {'columns': ['trial', 'state', 'loss', 'stretches', 'family'], 'data': [[0, 'complete', 0.4, 2, 'lightgbm']]}
    """
    names = list(dict.fromkeys(name for trial in trials for name in trial["parameters"]))
    rows = []
    for trial in trials:
        losses = trial["losses"]
        loss = float(np.mean(losses)) if losses else None
        rows.append([trial["number"], trial["state"], loss, len(losses), *(trial["parameters"].get(name) for name in names)])
    return {"columns": ["trial", "state", "loss", "stretches", *names], "data": rows}


def lineage_document(plan: Plan, name: str) -> dict[str, Any]:
    """Return what a model is made of, from the raw streams on: streams with their topics, each feature with its view and columns, the label."""
    model, known = plan.models[name], lineage_of(plan)
    features = {
        feature: {"view": known[feature].view, "streams": sorted(known[feature].streams), "columns": sorted(known[feature].columns)}
        for feature in model.features
    }
    label = model.settings.label
    streams = sorted({model.ask, label.stream} | {stream for feature in model.features for stream in known[feature].streams})
    return {
        "streams": {stream: {"topic": plan.streams[stream].topic, "owner": plan.application.owner_of("streams", stream)} for stream in streams},
        "asked_by": model.ask,
        "label": {"stream": label.stream, "joined_by": label.join, "value": label.value},
        "features": features,
    }


def _dataset(request: JobRequest, plan: Plan, model: str, details: Mapping[str, str]) -> dict[str, Any]:
    """Return what MLflow shows as the run's input: Delta versions, range, content hash."""
    lake = Lake(request.lake, plan.application.app)
    span = [instant_text(int(details[name])) for name in ("requests_from_ms", "requests_until_ms") if details.get(name)]
    return {
        "name": f"{plan.application.app}.{model}",
        "sha256": details.get("sha256", ""),
        "source": {table: {"uri": lake.uri(table), "version": details.get(f"{table}_version", "")} for table in (VECTORS, OUTCOMES)},
        "profile": {"rows": details.get("rows", ""), "requests": " to ".join(span), "known_before": instant_text(int(details["before_ms"]))},
    }

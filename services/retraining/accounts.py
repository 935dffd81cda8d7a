"""What the worker says: records of trainings, and events of the lifecycle log."""

import hashlib
from collections.abc import Mapping
from typing import Any

from tidemill.services.retraining.domain.lifecycle_commands import LifecycleAnswer
from tidemill.services.retraining.processes.job_files import JobResult
from tidemill.shared.models.deployments import Lifecycle, ModelDeployment

_PLACE = ("decision_id", "model", "journal_partition", "journal_offset", "journal_time")
_IN_SERVICE = ("promoted", "rolled_back")


def asked(decision: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a training's process is told of the decision that asks for it: a `tidemill.Retraining` that has not begun."""
    return training(decision, "requested", decision["reason"])


def training(
    decision: Mapping[str, Any], event: str, reason: str, figures: Mapping[str, float] | None = None, details: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return a `tidemill.Retraining`."""
    return {
        **{name: decision[name] for name in _PLACE},
        "trigger": decision["trigger"],
        "event": event,
        "reason": reason,
        "figures": dict(figures or {}),
        "details": {"cause": decision["cause"], **(details or {})},
    }


def judged(
    decision: Mapping[str, Any], event: str, candidate: ModelDeployment, result: JobResult, lifecycle: Lifecycle, share: float = 0.0
) -> dict[str, Any]:
    """Return the `tidemill.Deployment` of a candidate: registered, gate_passed, gate_refused, shadow, canary, ab or promoted."""
    figures: dict[str, Any] = {"figures": dict(result.figures), "details": dict(result.details), "artifact_uri": result.artifact_uri, "share": share}
    if event == "registered":
        figures["classes"] = result.classes
    return {**_event(decision, event, candidate, result.reason, lifecycle), **figures}


def judged_before(passed: Mapping[str, Any], event: str, reason: str, lifecycle: Lifecycle, share: float, at: tuple[int, int, int]) -> dict[str, Any]:
    """Return the `tidemill.Deployment` of a candidate that has passed its gate before and waited.

    Parameters
    ----------
    passed
        Its ``gate_passed``, whose training it still is of.
    at
        Journal partition, offset and time of what ended the waiting.
    """
    place = dict(zip(("journal_partition", "journal_offset", "journal_time"), at, strict=True))
    candidate = ModelDeployment(passed["version"], passed["artifact_sha256"], -1, passed["threshold"])
    kept = {name: passed[name] for name in ("figures", "details", "artifact_uri")}
    return {**_event({**passed, **place}, event, candidate, reason, lifecycle), **kept, "share": share}


def rolled_back(decision: Mapping[str, Any], reason: str, result: JobResult, lifecycle: Lifecycle) -> dict[str, Any]:
    """Return the `tidemill.Deployment` of a roll-back that a training's figures ask for."""
    return {**_event(decision, "rolled_back", lifecycle.retired[-1], reason, lifecycle), "figures": dict(result.figures)}


def commanded(decision: Mapping[str, Any], obeyed: LifecycleAnswer, lifecycle: Lifecycle, share: float) -> dict[str, Any]:
    """Return the `tidemill.Deployment` that answers a command, with why, and with who and when where an operator gave it.

    Parameters
    ----------
    share
        Of the requests, which a challenger answers then.
    """
    event = _event(decision, obeyed.event, obeyed.deployment, obeyed.reason, lifecycle)
    if decision["trigger"] == "manual":
        event |= {"operator": decision["operator"], "command_id": decision["cause"], "issued_at": decision["issued_at"]}
    if obeyed.event in ("canary", "ab"):
        event["share"] = share
    return {**event, "figures": dict(decision.get("figures") or {})}


def retired(model: str, lifecycle: Lifecycle, journal_time_ms: int) -> dict[str, Any]:
    """Return the `tidemill.Deployment` that ends the lifecycle of a model which the application has no more."""
    if lifecycle.champion is None:
        raise ValueError(f"{model}: expected a champion to retire, found none")
    identity = hashlib.sha256(f"retired\x1f{model}\x1f{lifecycle.head}".encode()).hexdigest()[:32]
    place = {"journal_partition": 0, "journal_offset": -1, "journal_time": max(0, journal_time_ms)}
    decision = {"decision_id": identity, "model": model, **place}
    return _event(decision, "retired", lifecycle.champion, "the application has no model of this name any more", lifecycle)


def _event(decision: Mapping[str, Any], event: str, deployment: ModelDeployment, reason: str, lifecycle: Lifecycle) -> dict[str, Any]:
    return {
        **{name: decision[name] for name in _PLACE},
        "sequence": lifecycle.head + 1,
        "parent": lifecycle.head,
        "event": event,
        "version": deployment.version,
        "artifact_sha256": deployment.artifact_sha256,
        "artifact_uri": "",
        "share": 1.0 if event in _IN_SERVICE else 0.0,
        "threshold": deployment.threshold,
        "figures": {},
        "details": {},
        "reason": reason,
        "operator": "",
        "command_id": "",
        "issued_at": None,
        "classes": None,
    }

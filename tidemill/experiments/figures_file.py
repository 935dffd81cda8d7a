"""The results of an experiment as JSON."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tidemill.experiments.comparison import Comparison, Trial, trade_off
from tidemill.experiments.subject import Subject, write_whole

TIMES = ("train_s", "wall_s")


def write_json(path: Path, subject: Subject, comparison: Comparison, about: dict[str, Any]) -> None:
    """Write every trial, by loss, and which ones stand out."""
    picks = {name: getattr(comparison, name) for name in ("best_loss", "best_metric", "best_trade_off", "fastest")}
    said = {
        **about,
        "subject": subject.said,
        "identity": subject.identity,
        "headline": comparison.kind.headline,
        "picks": {name: trial.configuration.identity for name, trial in picks.items() if trial is not None},
        "trials": [{**_row(row.trial), "behind_best": row.behind, "surely_worse": row.sure} for row in comparison.rows],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(_finite(said), indent=1) + "\n")


def _row(trial: Trial) -> dict[str, Any]:
    row = {name: value for name, value in trial.result.items() if name not in ("curve", "configuration", "status", "reason", "days")}
    point = trade_off(trial)
    best = {"best_f1": dict(zip(("f1", "recall", "precision", "threshold"), point, strict=True))} if point else {}
    named = {"number": trial.number, "identity": trial.configuration.identity, "status": trial.status, "reason": trial.reason}
    return {**named, **asdict(trial.configuration), **row, **best}


def _finite(value: Any) -> Any:  # figures of any shape
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""The figures of a demo run, and what must not be among them."""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidemill.audit.audit import AuditResult
from tidemill.audit.history import RunHistory
from tidemill.demo.open_loop_load import LoadResult
from tidemill.demo.quality import Quality
from tidemill.examples.flights.data import FlightsYear
from tidemill.examples.flights.oracle import OracleResult
from tidemill.runs.watch import RunState
from tidemill.shared.application.plan import Plan
from tidemill.shared.statistics.bootstrap import Interval


@dataclass(frozen=True, slots=True)
class DemoRun:
    """Everything a run left behind and everything that was found out about it.

    Attributes
    ----------
    quality
        None when no model was promoted.
    latency, burst
        The open-loop stretches; None when they were not measured.
    """

    year: FlightsYear
    history: RunHistory
    seen: RunState
    audited: AuditResult
    oracle: OracleResult
    quality: Quality | None
    latency: LoadResult | None
    burst: LoadResult | None


def figures_of(plan: Plan, run: DemoRun) -> dict[str, Any]:
    """Return what stands in ``demo-report.json``, apart from what only the run's shell knows (time, memory, restarts)."""
    year, history, seen = run.year, run.history, run.seen
    audited, oracle, quality = run.audited, run.oracle, run.quality
    latency, burst = run.latency, run.burst
    vectors = sum(len(records) for runs in history.vectors.values() for records in runs)
    answers = Counter(key for runs in history.predictions.values() for records in runs for key in records.keys)
    statuses = Counter(history.outcomes.column("status").to_pylist())
    absent = {"auc": None, "kappa": None, "log_loss": None, "accuracy": None}
    return {
        "events_in": history.raw,
        "accepted": history.accepted,
        "rejected": sum(history.rejected.values()),
        "rejected_by_reason": dict(history.rejected),
        "duplicates_dropped": history.duplicates,
        "late": history.late,
        "planted": dict(year.planted),
        "predictions": sum(answers.values()),
        "predictions_lost": vectors - len(answers),
        "predictions_duplicated": sum(answers.values()) - len(answers),
        "outcomes": sum(statuses.values()),
        "timeouts": statuses.get("timeout", 0),
        **seen.happenings(),
        "served": dict(quality.served) if quality else absent,
        "static": dict(quality.static) if quality else absent,
        "always_refit": dict(quality.refit) if quality else absent,
        "gap": gap_figures(quality.headline, quality.gap) if quality else None,
        "gap_always_refit": gap_figures(quality.headline, quality.refit_gap) if quality else None,
        "judged_rows": quality.rows if quality else 0,
        "harmful_promotions": sum(effect.is_harmful for effect in quality.promotions) if quality else 0,
        "promotion_effects": [effect.figures() for effect in quality.promotions] if quality else [],
        "throughput_events_per_s": round(burst.events_per_s) if burst else None,
        "latency_ms": {"p50": round(latency.percentile(50), 1), "p99": round(latency.percentile(99), 1)} if latency else None,
        "audit": {
            **{name: value for name, value in dataclasses.asdict(audited).items() if name != "examples"},
            "future_records": oracle.future_records,
            "oracle_values": oracle.values,
            "oracle_mismatches": oracle.mismatches,
            "oracle_misplaced": oracle.misplaced,
            "oracle_sensitive_values": oracle.sensitive_values,
            "examples": [*audited.examples, *oracle.examples],
        },
        "application_hash": plan.application_hash,
    }


def gap_figures(metric: str, gap: Interval) -> dict[str, float]:
    """Return a difference of a metric, by the metric's name, with the ends of its interval."""
    return {metric: gap.estimate, "low": gap.low, "high": gap.high}


def faults(figures: Mapping[str, Any], year: FlightsYear, history: RunHistory) -> list[str]:
    """Name everything that must not be: answers lost or doubled, differences, records that are not accounted for."""
    planted = year.planted
    wrong = [f"{name} is {figures[name]}" for name in ("predictions_lost", "predictions_duplicated") if figures[name]]
    checks = figures["audit"]
    zero = ("vector_mismatches", "prediction_mismatches", "switches_back", "future_records", "oracle_mismatches", "oracle_misplaced")
    wrong += [f"audit.{name} is {checks[name]}" for name in zero if checks[name]]
    if history.accepted + sum(history.rejected.values()) + history.duplicates != history.raw:
        wrong.append(f"accepted + rejected + duplicate is not raw: {history.accepted}, {history.rejected}, {history.duplicates}, {history.raw}")
    expected = {reason.removeprefix("rejected:"): count for reason, count in planted.items() if reason.startswith("rejected:")}
    if expected != dict(history.rejected):
        wrong.append(f"expected the dead letters {expected}, found {dict(history.rejected)}")
    if history.duplicates != planted["duplicate"] or history.late != planted["late"]:
        wrong.append(f"expected {planted['duplicate']} duplicates and {planted['late']} late, found {history.duplicates} and {history.late}")
    return wrong


def finite(value: Any) -> Any:
    """Return the figures as JSON can hold them: null for what is no number."""
    if isinstance(value, Mapping):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

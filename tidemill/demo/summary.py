"""A demo run as the report shows it: headline, tiles, marks on the year, tables."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tidemill.audit.history import RunHistory
from tidemill.demo.figures import DemoRun
from tidemill.demo.quality import WEEK_MS, Quality
from tidemill.demo.report import Mark, MarkKind, ReportData, Table
from tidemill.demo.stretches import LOAD_RATE
from tidemill.examples.flights.data import FlightsYear
from tidemill.runs.metric_words import metric_text, metric_words
from tidemill.runs.watch import RunState
from tidemill.shared.instant import utc

_FIRST = ("loss", "log_loss", "squared_error", "mean_squared_error", "auc", "mean_absolute_error")
_MOST_METRICS = 3


def report_data(figures: Mapping[str, Any], run: DemoRun) -> ReportData:
    """Arrange a run for the report."""
    history, seen, quality, latency = run.history, run.seen, run.quality, run.latency
    nothing = np.empty(0)
    curves = quality.curves() if quality else (nothing, nothing, nothing)
    marks = marks_of(seen)
    features, weeks, psi = psi_by_week(seen)
    delays = history.outcomes.column("delay_ms").drop_null().to_numpy() / 60_000
    served, static, gap, behind = (figures[name] for name in ("served", "static", "gap", "gap_always_refit"))
    metric = quality.headline if quality else "auc"
    name, always = metric_words(metric), figures["always_refit"]

    def shown(value: float | None, *, signed: bool = False) -> str:
        return metric_text(metric, value, signed=signed)

    headline = "No model was promoted." if quality is None else (
        f"Retrained by itself, the system served {name} {shown(served.get(metric))}; the first model, kept all year, would have had"
        f" {shown(static.get(metric))} (difference {_interval(metric, gap)}, {quality.rows:,} labelled requests)."
        f"{against_unjudged(metric, always, behind)}"
    )  # fmt: skip
    tiles = [
        (
            f"{name} served",
            shown(served.get(metric)),
            f"static {shown(static.get(metric))}, always refit {shown(always.get(metric))}" if quality else "",
        ),
        ("Promotions", str(figures["promotions"]), f"{figures['refusals']} refused, {figures['rollbacks']} rolled back"),
        ("Events", f"{figures['events_in']:,}", f"{figures['rejected']} rejected, {figures['duplicates_dropped']} duplicates"),
        ("Predictions", f"{figures['predictions']:,}", f"{figures['predictions_lost']} lost, {figures['predictions_duplicated']} twice"),
        ("Latency p99", f"{figures['latency_ms']['p99']:.0f} ms" if latency else "-", f"at {LOAD_RATE:,} events/s"),
        ("Throughput", f"{figures['throughput_events_per_s']:,}/s" if latency else "-", "requests answered, whole system running"),
    ]
    checks = figures["audit"]
    return ReportData(
        title="Tidemill: the flights of 2013",
        headline=headline,
        tiles=tiles,
        metric=name,
        begins_ms=quality.begins_ms if quality else nothing,
        served=curves[0],
        static=curves[1],
        refit=curves[2],
        marks=marks,
        label_delay_min=delays,
        latency_ms=latency.latencies_ms if latency else nothing,
        features=features,
        psi_weeks_ms=weeks,
        psi=psi,
        models=models_table(seen),
        incidents=incidents_table(seen),
        slices=slices_table(seen),
        promotions=promotions_table([quality] if quality else []),
        bad_records=Table(("planted", "records", "found"), _bad_records(run.year, history)),
        summary=Table(
            ("figure", "value"), [(k, f"{v:,}" if isinstance(v, int) else str(v)) for k, v in figures.items() if not isinstance(v, (dict, list))]
        ),
        audit=Table(("check", "value"), [(name, f"{value:,}") for name, value in checks.items() if isinstance(value, int)]),
    )


def against_unjudged(metric: str, always: Mapping[str, float], behind: Mapping[str, float]) -> str:
    """Return a sentence on what putting every candidate into service would have brought; nothing where that is what was done."""
    if not any(behind[name] for name in (metric, "low", "high")):
        return ""
    would = metric_text(metric, always.get(metric))
    return f" Every candidate put into service unjudged would have had {would} (served {_interval(metric, behind)})."


def _interval(metric: str, gap: Mapping[str, float]) -> str:
    low, high = (metric_text(metric, gap[end], signed=True) for end in ("low", "high"))
    return f"{metric_text(metric, gap[metric], signed=True)}, 95 % interval {low} to {high}"


def _bad_records(year: FlightsYear, history: RunHistory) -> list[tuple[str, str, str]]:
    counts = {"duplicate": history.duplicates, "late": history.late, **{f"rejected:{reason}": n for reason, n in history.rejected.items()}}
    return [(name.replace(":", ": "), str(count), str(counts.get(name, 0))) for name, count in year.planted.items()]


def marks_of(seen: RunState) -> list[Mark]:
    """Return what happened to the models, and the alarms."""
    kinds: dict[str, MarkKind] = {
        "promoted": "promotion",
        "gate_refused": "refusal",
        "shadow": "trial",
        "canary": "trial",
        "ab": "trial",
        "stepped_back": "step_back",
        "rolled_back": "rollback",
    }
    stages = {"shadow": " in shadow", "canary": " answers a share", "ab": " in an A/B test"}
    events = [event for event in seen.deployments if event["event"] in kinds]
    marks = [Mark(e["journal_time"], kinds[e["event"]], f"{e['version']}{stages.get(e['event'], '')}: {e['reason']}") for e in events]
    alarms = [one for one in seen.incidents if one["severity"] == "alarm" and one["change"] in ("opened", "worse")]
    return marks + [Mark(one["journal_time"], "alarm", one["likely_cause"]) for one in alarms]


def incidents_table(seen: RunState) -> Table:
    """Return every incident: since when, what it is likely to come from, what the system did, and what became of it."""
    rows = []
    for one in seen.newest_incidents():
        day, last = (utc(one[name]).strftime("%Y-%m-%d") for name in ("opened", "journal_time"))
        status = f"resolved {last}" if one["status"] == "resolved" else one["status"]
        rows.append((day, one["severity"], one["root"], one["likely_cause"], str(one["findings"]), f"{one['level']:.1f}", one["action"], status))
    return Table(("opened", "severity", "root", "likely cause", "findings", "times its bound", "what the system did", "status"), rows)


def promotions_table(judged: Sequence[Quality]) -> Table:
    """Return what each promotion brought: the difference in loss on the requests that came next, and whether it did harm."""
    rows = []
    for one in (effect for quality in judged for effect in quality.promotions):
        day, between = utc(one.at_ms).strftime("%Y-%m-%d"), one.difference
        ends = f"{between.low:+.4f} to {between.high:+.4f}" if between.low == between.low else "-"
        verdict = "harmful" if one.is_harmful else "no harm shown" if between.low == between.low else "not judged: fewer than three days"
        rows.append((day, one.version, one.predecessor, f"{one.requests:,}", f"{between.estimate:+.4f}", ends, f"{one.allowed:.4g}", verdict))
    return Table(("promoted", "version", "in place of", "requests", "difference in loss", "95 % bounds", "allowed", "verdict"), rows)


def slices_table(seen: RunState) -> Table:
    """Return the slices of each model as its last window has them: requests, labels, loss and accuracy or error with their intervals."""
    newest = {record["model"]: record for record in seen.health}
    rows = []
    for model, record in newest.items():
        for one in record["slices"]:
            own = one["metrics"]
            second = "mae" if "mae" in own else "accuracy"
            quality = [_between(own, name) if one["judged"] else "not judged" for name in ("loss", second)]
            values = "held against its own past" if one["values_judged"] else "too few rows to judge"
            rows.append((model, one["slice"], f"{own['requests']:,.0f}", f"{own['labels']:,.0f}", *quality, values))
    return Table(("model", "slice", "requests of the last window", "labels", "loss", "accuracy or absolute error", "values"), rows)


def _between(figures: Mapping[str, float], name: str) -> str:
    value, low, high = (figures.get(key, float("nan")) for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value:.4g} ({low:.4g} to {high:.4g})"


def models_table(seen: RunState) -> Table:
    """Return every candidate, as what it was put forward, its way through the stages, and the figures that it was judged by."""
    words = {"gate_passed": "passed", "gate_refused": "refused", "rolled_back": "rolled back to"}
    judged = [event for event in seen.deployments if event["event"] in words]
    compared = {name for event in judged for name in event["figures"] if f"champion_{name}" in event["figures"]}
    metrics = sorted(compared, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))[:_MOST_METRICS]
    rows = []
    for event in judged:
        figures, details = event["figures"], event["details"]
        day = utc(event["journal_time"]).strftime("%Y-%m-%d")
        numbers = [f"{figures[name]:.4g}" if name in figures else "-" for m in metrics for name in (m, f"champion_{m}")]
        window = {"0": "all", "-": "-"}.get(details.get("window_days", "-"), f"{details.get('window_days')} d")
        admission = details.get("admission", "-")
        verdict = way_of(event["version"], seen) or words[event["event"]] if event["event"] == "gate_passed" else words[event["event"]]
        rows.append((day, event["version"], verdict, admission, details.get("family", "-"), window, *numbers, _evidence(event)))
    pairs = [header for name in metrics for header in (metric_words(name), f"champion's {metric_words(name)}")]
    return Table(("asked", "version", "verdict", "as", "family", "window", *pairs, "evidence"), rows)


def way_of(version: str, seen: RunState) -> str:
    """Return a version's way through the stages in words: each stage with its day, the last one without where there is one only."""
    words = {"shadow": "shadow", "canary": "canary", "ab": "A/B test", "promoted": "promoted", "stepped_back": "stepped back"}
    mine = [event for event in seen.deployments if event["version"] == version and event["event"] in words]
    if len(mine) < 2:
        return "".join(words[event["event"]] for event in mine)
    return ", ".join(f"{words[e['event']]} {utc(e['journal_time']).strftime('%m-%d')}" for e in mine)


def _evidence(event: Mapping[str, Any]) -> str:
    """Return what a verdict rests on, in a number; a refit rests on its recipe's."""
    figures = event["figures"]
    if "log_e" in figures:
        return f"e = {math.exp(min(700.0, figures['log_e'])):.3g}"
    return f"p = {figures['p_value']:.2g}" if "p_value" in figures else "-"


def psi_by_week(seen: RunState) -> tuple[list[str], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the mean shift of each feature in each week in units of its bound, of the thirty whose shift times importance is largest."""
    by_feature: dict[str, dict[int, list[float]]] = {}
    ranked: dict[str, float] = {}
    for record in seen.health:
        for name, value in record["metrics"].items():
            if name.startswith("ranked__"):
                own_rank = name.removeprefix("ranked__")
                ranked[own_rank] = max(value, ranked.get(own_rank, 0.0))
            if name.startswith("shift__"):
                week = record["window_start"] // WEEK_MS
                own = by_feature.setdefault(name.removeprefix("shift__"), {})
                own.setdefault(week, []).append(value)
    weeks = sorted({week for own in by_feature.values() for week in own})
    means = {name: {week: float(np.mean(values)) for week, values in own.items()} for name, own in by_feature.items()}
    names = sorted(means, key=lambda name: (-ranked.get(name, 0.0), -max(means[name].values())))[:30]
    values = np.array([[means[name].get(week, np.nan) for week in weeks] for name in names]).reshape(len(names), len(weeks))
    return names, np.array(weeks, np.float64) * WEEK_MS, values

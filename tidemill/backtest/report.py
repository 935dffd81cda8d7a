"""A backtest as the HTML report shows it: the demo's report, where a run in one process has something to show."""

from pathlib import Path
from typing import Any

import numpy as np

from tidemill.backtest.figures import BacktestFigures
from tidemill.demo.quality import Quality
from tidemill.demo.report import ReportData, Table, write_report
from tidemill.demo.summary import incidents_table, marks_of, models_table, psi_by_week
from tidemill.runs.watch import Seen
from tidemill.shared.avro.times import instant_text

_UNITS = ((604_800_000, "week"), (86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1_000, "second"))


def write_html(path: Path, app: str, figures: BacktestFigures, seen: Seen) -> None:
    """Write the report. Of several models the first that was judged has the curves; the table has them all."""
    judged = next(((name, found) for name, found in figures.quality.items() if found is not None), None)
    name, quality = judged if judged is not None else ("", None)
    values, nothing = figures.values, np.empty(0)
    features, weeks, psi = psi_by_week(seen)
    length = next((word for unit, word in _UNITS if figures.block_ms == unit), f"{figures.block_ms / 1_000:g} seconds")
    data = ReportData(
        title=f"Tidemill: a backtest of {app}",
        headline=_headline(name, quality),
        tiles=_tiles(values, quality),
        weeks_ms=quality.weeks_ms if quality else nothing,
        served_auc=quality.served_auc if quality else nothing,
        static_auc=quality.static_auc if quality else nothing,
        refit_auc=quality.refit_auc if quality else nothing,
        marks=marks_of(seen),
        label_delay_min=figures.delays_ms.to_numpy(zero_copy_only=False) / 60_000,
        latency_ms=nothing,
        features=features,
        psi_weeks_ms=weeks,
        psi=psi,
        models=models_table(seen),
        incidents=incidents_table(seen),
        bad_records=Table(("reason", "records"), [(reason, f"{count:,}") for reason, count in values["rejected_by_reason"].items()]),
        summary=Table(("figure", "value"), [*_summary(values), *_blocks(figures)]),
        audit=Table(("check", "value"), []),
        is_live=False,
        quality_title="Quality over time",
        quality_words=f"AUC of the labels of every {length}, on the same requests.",
    )
    write_report(path.parent, data, path.name)


def _headline(name: str, quality: Quality | None) -> str:
    if quality is None:
        return "No model was promoted, or no label came after that."
    served, static, gap = quality.served["auc"], quality.static["auc"], quality.gap
    return (
        f"{name}: retrained by itself, it would have served AUC {served:.3f}; its first model, kept, {static:.3f} (difference {gap.estimate:+.3f},"
        f" 95 % interval {gap.low:+.3f} to {gap.high:+.3f}, {quality.rows:,} labelled requests)."
    )


def _tiles(values: Any, quality: Quality | None) -> list[tuple[str, str, str]]:  # noqa: ANN401, RUF100 - what stands in the JSON
    return [
        ("AUC served", f"{quality.served['auc']:.3f}" if quality else "-", f"static {quality.static['auc']:.3f}" if quality else ""),
        ("Promotions", str(values["promotions"]), f"{values['refusals']} refused, {values['rollbacks']} rolled back"),
        ("Events", f"{values['events_in']:,}", f"{values['rejected']} rejected, {values['duplicates_dropped']} duplicates"),
        ("Predictions", f"{values['predictions']:,}", f"{values['degraded']:,} by the fallback"),
        ("Trainings", str(values["retrains"]), f"{values['trainings_failed']} failed"),
        ("Incidents", str(values["incidents"]), f"{values['incident_alarms']} with an alarm, of {values['drift_events']} findings"),
    ]


def _summary(values: Any) -> list[tuple[str, str]]:  # noqa: ANN401, RUF100 - what stands in the JSON
    return [(name, f"{value:,}" if isinstance(value, int) else str(value)) for name, value in values.items() if not isinstance(value, (dict, list))]


def _blocks(figures: BacktestFigures) -> list[tuple[str, str]]:
    """Return a line for each model and block: what was served, and what the first model would have."""
    found = []
    for name, quality in figures.quality.items():
        for block in quality.blocks if quality else ():
            pairs = ", ".join(f"{metric} {block.served[metric]:.4f} (static {block.static[metric]:.4f})" for metric in block.served)
            found.append((f"{name} {instant_text(block.begin_ms)[:16]}", f"{block.rows:,} rows: {pairs}"))
    return found

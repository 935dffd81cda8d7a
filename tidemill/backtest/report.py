"""A backtest as the HTML report shows it: the demo's report, where a run in one process has something to show."""

from pathlib import Path
from typing import Any

import numpy as np

from tidemill.backtest.figures import BacktestFigures
from tidemill.demo.quality import Quality
from tidemill.demo.report import ReportData, Table, write_report
from tidemill.demo.summary import incidents_table, marks_of, models_table, promotions_table, psi_by_week, slices_table
from tidemill.runs.metric_words import metric_text, metric_words
from tidemill.runs.watch import RunState
from tidemill.shared.avro.times import instant_text

_UNITS = ((604_800_000, "week"), (86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1_000, "second"))


def write_html(path: Path, app: str, figures: BacktestFigures, seen: RunState) -> None:
    """Write the report. Of several models the first that was judged has the curves; the table has them all."""
    judged = next(((name, model_quality) for name, model_quality in figures.quality.items() if model_quality is not None), None)
    name, quality = judged if judged is not None else ("", None)
    values, nothing = figures.values, np.empty(0)
    metric = metric_words(quality.headline) if quality else "quality"
    curves = quality.curves() if quality else (nothing, nothing, nothing)
    features, weeks, psi = psi_by_week(seen)
    length = next((word for unit, word in _UNITS if figures.block_ms == unit), f"{figures.block_ms / 1_000:g} seconds")
    data = ReportData(
        title=f"Tidemill: a backtest of {app}",
        headline=_headline(name, quality),
        tiles=_tiles(values, quality),
        metric=metric,
        begins_ms=quality.begins_ms if quality else nothing,
        served=curves[0],
        static=curves[1],
        refit=curves[2],
        marks=marks_of(seen),
        label_delay_min=figures.delays_ms.to_numpy(zero_copy_only=False) / 60_000,
        latency_ms=nothing,
        features=features,
        psi_weeks_ms=weeks,
        psi=psi,
        models=models_table(seen),
        incidents=incidents_table(seen),
        slices=slices_table(seen),
        promotions=promotions_table([one for one in figures.quality.values() if one is not None]),
        bad_records=Table(("reason", "records"), [(reason, f"{count:,}") for reason, count in values["rejected_by_reason"].items()]),
        summary=Table(("figure", "value"), [*_summary(values), *_blocks(figures)]),
        audit=Table(("check", "value"), []),
        is_live=False,
        quality_title="Quality over time",
        block_ms=float(figures.block_ms),
        quality_words=f"{metric[0].upper()}{metric[1:]} of the labels of every {length}, on the same requests.",
    )
    write_report(path.parent, data, path.name)


def _headline(name: str, quality: Quality | None) -> str:
    if quality is None:
        return "No model was promoted, or no label came after that."
    metric, gap = quality.headline, quality.gap
    served, static = (metric_text(metric, figures.get(metric)) for figures in (quality.served, quality.static))
    difference, low, high = (metric_text(metric, value, signed=True) for value in (gap.estimate, gap.low, gap.high))
    return (
        f"{name}: retrained by itself, it would have served {metric_words(metric)} {served}; its first model, kept, {static}"
        f" (difference {difference}, 95 % interval {low} to {high}, {quality.rows:,} labelled requests)."
    )


def _tiles(values: Any, quality: Quality | None) -> list[tuple[str, str, str]]:  # what stands in the JSON
    return [
        *(_quality_tiles(quality) if quality else [("Quality served", "-", "")]),
        ("Promotions", str(values["promotions"]), f"{values['refusals']} refused, {values['rollbacks']} rolled back"),
        ("Events", f"{values['events_in']:,}", f"{values['rejected']} rejected, {values['duplicates_dropped']} duplicates"),
        ("Predictions", f"{values['predictions']:,}", f"{values['degraded']:,} by the fallback"),
        ("Trainings", str(values["retrains"]), f"{values['trainings_failed']} failed"),
        ("Incidents", str(values["incidents"]), f"{values['incident_alarms']} with an alarm, of {values['drift_events']} findings"),
    ]


def _quality_tiles(quality: Quality) -> list[tuple[str, str, str]]:
    metric = quality.headline
    served, static = (metric_text(metric, figures.get(metric)) for figures in (quality.served, quality.static))
    words = metric_words(metric)
    tiles = [(f"{words[0].upper()}{words[1:]} served", served, f"static {static}")]
    if "coverage" in quality.served:
        tiles.append(("Interval coverage", f"{quality.served['coverage']:.1%}", f"mean width {quality.served['interval_width']:.4g}"))
    return tiles


def _summary(values: Any) -> list[tuple[str, str]]:  # what stands in the JSON
    return [(name, f"{value:,}" if isinstance(value, int) else str(value)) for name, value in values.items() if not isinstance(value, (dict, list))]


def _blocks(figures: BacktestFigures) -> list[tuple[str, str]]:
    """Return a line for each model and block: what was served, and what the first model would have."""
    blocks = []
    for name, quality in figures.quality.items():
        for block in quality.blocks if quality else ():
            pairs = ", ".join(
                f"{metric} {value:.4g} (static {metric_text(metric, block.static.get(metric))})" for metric, value in block.served.items()
            )
            blocks.append((f"{name} {instant_text(block.begin_ms)[:16]}", f"{block.rows:,} rows: {pairs}"))
    return blocks

"""Reads a model's answered requests from the archive, before and since an instant, and says why its loss has risen."""

import html
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.offline.diagnosis import LEAST, AnsweredWindow, Diagnosis, Score, diagnose
from tidemill.shared.application.plan import ModelPlan, Plan
from tidemill.shared.application.view_version import feature_versions
from tidemill.shared.avro.times import instant_text
from tidemill.shared.lake.journal import UnfitArchiveError
from tidemill.shared.lake.names import OUTCOMES, VECTORS
from tidemill.shared.lake.served_scores import classes_of_answers, served_scores
from tidemill.shared.lake.tables import Lake
from tidemill.shared.lake.training_set import training_set
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.models.served_model import as_kind
from tidemill.shared.models.stored_versions import artifact_of

_DAY_MS = 86_400_000
_CURRENT_DAYS, _REFERENCE_DAYS = 7, 28
_LAST_MS = 2**52
_COLUMNS = ["model", "variant", "model_version", "request_journal_time"]


@dataclass(frozen=True, slots=True)
class ModelDiagnosis:
    """What was found about a model, and between which instants."""

    model: str
    reference_from_ms: int
    since_ms: int
    until_ms: int
    version: str
    version_before: str
    diagnosis: Diagnosis


def diagnose_model(plan: Plan, lake: Lake, store: ArtifactStore, name: str, since_ms: int | None = None) -> ModelDiagnosis:
    """Diagnose a model on what the archive has.

    Parameters
    ----------
    since_ms
        Begin of the window that is looked into; the last seven days when None. It is held against up to 28 days before.

    Raises
    ------
    UnfitArchiveError
        There is no archive.
    ValueError
        Too few labelled answers in a window.
    UnknownVersionError, ArtifactError, TransientError
    """
    if not (lake.exists(VECTORS) and lake.exists(OUTCOMES)):
        raise UnfitArchiveError(f"expected archived vectors and outcomes in {lake.root}, found none; look at --run, --lake")
    model = plan.models[name]
    if model.learns_classes:
        model = model.with_classes(classes_of_answers(lake, name))
    rows = training_set(lake, model, _LAST_MS, feature_versions(plan))
    scores = served_scores(lake, name, model.kind, rows.rows, _LAST_MS, int(rows.version[f"{OUTCOMES}_version"]))
    times = np.asarray(rows.rows.column("_request_time").to_numpy(), np.int64)
    if not len(times):
        raise ValueError(f"expected labelled requests of {name} in {lake.root}, found none")
    until = int(times.max()) + 1
    since = until - _CURRENT_DAYS * _DAY_MS if since_ms is None else since_ms
    begin = since - _REFERENCE_DAYS * _DAY_MS
    asked = _asked(lake, model)
    windows = [_window(model, rows.rows, scores, times, asked, span) for span in ((begin, since), (since, until))]
    if len(windows[0].labels) < LEAST and int(times.min()) > begin:
        raise ValueError(
            f"expected {LEAST} labelled answers of {name} before {instant_text(since)}, found {len(windows[0].labels)}: the archive's begin at "
            f"{instant_text(int(times.min()))}, what is older was pruned or never archived; give a later --since"
        )
    versions = [_version(lake, name, span) for span in ((begin, since), (since, until))]
    now = _scorer(store, model, versions[1] or versions[0])
    before = _scorer(store, model, versions[0]) if versions[0] and versions[1] and versions[0] != versions[1] else None
    diagnosis = diagnose(model.kind, windows[0], windows[1], now, before)
    return ModelDiagnosis(name, max(begin, int(times.min())), since, until, versions[1], versions[0], diagnosis)


def _asked(lake: Lake, model: ModelPlan) -> NDArray[np.int64]:
    table = lake.read(VECTORS, ["_ask", "_journal_time"], _LAST_MS, "_journal_time")
    return pl.DataFrame({"a": table.column("_ask"), "t": table.column("_journal_time")}).filter(pl.col("a") == model.ask)["t"].to_numpy()


def _window(
    model: ModelPlan, rows: pa.Table, scores: NDArray[np.float64], times: NDArray[np.int64], asked: NDArray[np.int64], span: tuple[int, int]
) -> AnsweredWindow:
    begin, end = span
    inside = (times >= begin) & (times < end)
    answered = inside & model.kind.is_score(scores)
    chosen = rows.filter(pa.array(answered))
    labels = np.asarray(chosen.column("_label").to_numpy(), np.float64)
    delays = np.asarray(rows.column("_label_time").to_numpy(), np.int64)[inside] - times[inside]
    features = chosen.select(list(model.features)).combine_chunks()
    # Tables of the lake have texts of 64-bit offsets; models read those of 32.
    columns = [column.combine_chunks() for column in features.columns]
    batch = pa.RecordBatch.from_arrays(
        [column.cast(pa.string()) if pa.types.is_large_string(column.type) else column for column in columns], names=features.schema.names
    )
    count = int(((asked >= begin) & (asked < end)).sum())
    delay = float(np.median(delays)) if len(delays) else float("nan")
    return AnsweredWindow(batch, labels, scores[answered], times[answered] // _DAY_MS, count, int(inside.sum()), delay)


def _version(lake: Lake, name: str, span: tuple[int, int]) -> str:
    """Return the version that gave the last answer of a span; empty when only the fallback answered."""
    table = lake.read(OUTCOMES, _COLUMNS, span[1], "request_journal_time")
    rows = pl.DataFrame({column: table.column(column) for column in _COLUMNS})
    mine = rows.filter((pl.col("model") == name) & (pl.col("variant") == "champion") & (pl.col("request_journal_time") >= span[0]))
    return str(mine.sort("request_journal_time")["model_version"][-1]) if mine.height else ""


def _scorer(store: ArtifactStore, model: ModelPlan, version: str) -> Score:
    if not version:
        raise ValueError(f"expected answers of a model {model.name} in these windows, found the fallback's only")
    return as_kind(OnnxScorer(artifact_of(store, model.name, version)), model.kind).score


def sentences(one: ModelDiagnosis) -> list[str]:
    """Say what was found: the rise, its causes from the largest on, the columns that moved and matter, labels."""
    diagnosis = one.diagnosis
    span = f"{instant_text(one.since_ms)} to {instant_text(one.until_ms)} against the time from {instant_text(one.reference_from_ms)} on"
    before = f" (before it {one.version_before})" if one.version_before not in ("", one.version) else ""
    verdict = "has risen" if diagnosis.is_worse else "has not risen beyond what days differ by"
    lines = [
        f"{one.model} {one.version}{before}: the loss {verdict}: "
        f"{diagnosis.current_loss:.4f} after {diagnosis.reference_loss:.4f}, {diagnosis.rise:+.4f} "
        f"[{diagnosis.low:+.4f}, {diagnosis.high:+.4f}], {span}"
    ]
    for cause in diagnosis.causes:
        evidence = ", ".join(f"{name} {value:.3g}" for name, value in cause.evidence.items())
        lines.append(f"{cause.kind}: {cause.loss:+.4f}: {cause.words} ({evidence})")
    lines.append(
        "columns by shift times importance: " + ", ".join(f"{one.column} {one.distance:.2f} x {one.importance:.3g}" for one in diagnosis.shifts[:8])
    )
    lines.append(", ".join(f"{name} {value:.4g}" for name, value in diagnosis.figures.items()))
    return lines


def to_html(one: ModelDiagnosis) -> str:
    """Return a page that needs nothing else."""
    first, *rest = map(html.escape, sentences(one))
    largest = max((abs(cause.loss) for cause in one.diagnosis.causes), default=0.0) or 1.0
    bars = "".join(
        f"<tr><td>{html.escape(cause.kind)}</td><td>{cause.loss:+.4f}</td><td><div class={'more' if cause.loss > 0 else 'less'}"
        f" style='width:{200 * abs(cause.loss) / largest:.0f}px'></div></td></tr>"
        for cause in one.diagnosis.causes
    )
    items = "".join(f"<li>{line}</li>" for line in rest)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Diagnosis of {html.escape(one.model)}</title>"
        "<style>body{font:16px sans-serif;max-width:60em;margin:2em auto;padding:0 1em}td{padding:.2em 1em .2em 0}"
        ".more,.less{height:1em}.more{background:#b33}.less{background:#393}</style>"
        f"<h1>Diagnosis of {html.escape(one.model)}</h1><p>{first}</p><table>{bars}</table><ul>{items}</ul></html>"
    )

"""The figures of a backtest: the demo's, for every model and every block of time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from tidemill.backtest.public_log import PublicLog
from tidemill.demo.figures import gap_figures
from tidemill.demo.quality import DAY_MS, WEEK_MS, Quality, compare
from tidemill.shared.application.plan import ModelPlan, Plan
from tidemill.shared.lake.names import OUTCOMES, VECTORS
from tidemill.shared.lake.tables import Lake, milliseconds
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.models.learned_plan import learned_plan

_OUTCOME_COLUMNS = (
    "model", "journal_partition", "request_journal_offset", "request_journal_time", "score", "predicted", "deployment_sequence", "status", "label",
    "delay_ms", "revision", "scores", "lower", "upper", "control", "propensity", "label_class",
)  # fmt: skip
_BLOCKS_MS = (WEEK_MS, DAY_MS, 6 * 3_600_000, 3_600_000, 600_000, 60_000, 1_000, 1)
_LEAST_BLOCKS, _FEWEST_BLOCKS = 8, 3
_LEAST_LABELS = 75


@dataclass(frozen=True, slots=True)
class BacktestFigures:
    """What was found out about a backtest.

    Attributes
    ----------
    values
        What stands in the report's JSON.
    quality
        By model; None where no model was promoted, or no label came after that.
    block_ms
        Length of a block.
    delays_ms
        From request to label, one per label.
    """

    values: Mapping[str, Any]
    quality: Mapping[str, Quality | None]
    block_ms: int
    delays_ms: pa.Array = field(repr=False)


def block_of(span_ms: int, rows: int) -> int:
    """Return the length of a block for so many labels over so many milliseconds.

    A week, or less where there would be fewer than eight. Where a block would have fewer than 75 labels (a ranking metric needs 50) it is longer, as
    long as three are left.

    >>> block_of(365 * DAY_MS, 100_000) == WEEK_MS, block_of(10 * DAY_MS, 5_000) == DAY_MS, block_of(60_000, 1_000)
    (True, True, 1000)
    >>> block_of(31 * DAY_MS, 1_350) == WEEK_MS
    True
    """
    place = next((i for i, length in enumerate(_BLOCKS_MS) if span_ms >= _LEAST_BLOCKS * length), len(_BLOCKS_MS) - 1)
    while place and rows * _BLOCKS_MS[place] < _LEAST_LABELS * span_ms and span_ms >= _FEWEST_BLOCKS * _BLOCKS_MS[place - 1]:
        place -= 1
    return _BLOCKS_MS[place]


def figures_of(plan: Plan, log: PublicLog, lake: Lake, artifacts: ArtifactStore, span_ms: int, counts: Mapping[str, int]) -> BacktestFigures:
    """Read the archived vectors and outcomes, and compare what served with the first model.

    Parameters
    ----------
    counts
        What only the run knows, by the name it has in the report.
    """
    seen, outcomes = log.seen, _outcomes(lake)
    plan = learned_plan(plan, seen.deployments)
    block_ms = block_of(span_ms, len(outcomes))
    quality = {
        name: compare(seen.deployments, outcomes, vectors, artifacts, name, model.kind, model.settings.gate.margins(model.kind.name)[0], block_ms)
        if (vectors := _vectors(plan, model, lake)) is not None
        else None
        for name, model in plan.models.items()
    }
    rejected: dict[str, int] = {}
    for (_, _, reason), count in seen.rejected.items():
        rejected[reason] = rejected.get(reason, 0) + count
    values = {
        **counts,
        "rejected": sum(rejected.values()),
        "rejected_by_reason": rejected,
        "duplicates_dropped": log.duplicates,
        "late": log.late,
        "outcomes": len(outcomes),
        "timeouts": sum(status == "timeout" for status in outcomes.column("status").to_pylist()),
        **seen.happenings(),
        "harmful_promotions": sum(
            effect.is_harmful for model_quality in quality.values() if model_quality is not None for effect in model_quality.promotions
        ),
        "block_ms": block_ms,
        "models": {name: {"kind": plan.models[name].kind.name, **_model(model_quality)} for name, model_quality in quality.items()},
        "application_hash": plan.application_hash,
    }
    return BacktestFigures(values, quality, block_ms, outcomes.column("delay_ms").drop_null().combine_chunks())


def _model(quality: Quality | None) -> dict[str, Any]:
    if quality is None:
        return {
            "judged_rows": 0,
            "headline": None,
            "served": None,
            "static": None,
            "always_refit": None,
            "gap": None,
            "gap_always_refit": None,
            "blocks": [],
            "promotions": [],
        }
    return {
        "judged_rows": quality.rows,
        "headline": quality.headline,
        "served": dict(quality.served),
        "static": dict(quality.static),
        "always_refit": dict(quality.refit),
        "gap": gap_figures(quality.headline, quality.gap),
        "gap_always_refit": gap_figures(quality.headline, quality.refit_gap),
        "blocks": [
            {
                "begin_ms": block.begin_ms,
                "rows": block.rows,
                "served": dict(block.served),
                "static": dict(block.static),
                "always_refit": dict(block.refit),
            }
            for block in quality.blocks
        ],
        "promotions": [effect.figures() for effect in quality.promotions],
    }


def _outcomes(lake: Lake) -> pa.Table:
    if not lake.exists(OUTCOMES):
        return pa.table({name: pa.array([], pa.string() if name == "status" else pa.int64()) for name in _OUTCOME_COLUMNS})
    return milliseconds(lake.dataset(OUTCOMES).to_table(columns=list(_OUTCOME_COLUMNS)))


def _vectors(plan: Plan, model: ModelPlan, lake: Lake) -> pa.Table | None:
    """Read the vectors that ask a model, as it reads them; None when there are none."""
    if not lake.exists(VECTORS) or not lake.exists(OUTCOMES):
        return None
    names = ["_journal_partition", "_journal_offset", *model.features]
    types = [pa.int32(), pa.int64(), *(plan.vector_arrow.field(name).type for name in model.features)]
    vectors = lake.dataset(VECTORS).to_table(columns=names, filter=ds.field("_ask") == model.ask)
    return vectors.cast(pa.schema(list(zip(names, types, strict=True))))

"""Rules of alerts, compiled: SQL over the columns of the public topics."""

from dataclasses import dataclass

import pyarrow as pa

from tidemill.shared.application.alerts import LEVELS, AlertRule, AlertSeverity, AlertSource
from tidemill.shared.application.expressions import Expression, ExpressionError, compile_expression

# Every topic has the time of its record, and how long ago that is: on a level, at every tick of the clock.
TIME, AGE = "journal_time", "age_s"
_ESTIMATED = ("accuracy", "auc", "log_loss", "brier", "mean_absolute_error", "root_mean_squared_error")
METRICS = (
    "predictions", "labels", "timeouts", "label_share", "score_mean", "fallback_share", "latency_p50_ms", "latency_p99_ms", "label_delay_p50_ms",
    "label_delay_p95_ms", "auc", "log_loss", "kappa", "accuracy", "brier", "calibration_error", "positive_rate", "predicted_positive_rate",
    "mean_absolute_error", "root_mean_squared_error", "average_precision", "balanced_accuracy", "precision", "recall", "f1", "r2", "coverage",
    "interval_width", "pinball_loss", "estimated_precision", "estimated_recall", "estimated_f1",
    *(f"estimated_{name}{end}" for name in _ESTIMATED for end in ("", "_low", "_high")),
)  # fmt: skip
_TEXT, _NUMBER, _WHOLE = pa.string(), pa.float64(), pa.int64()
_COLUMNS: dict[AlertSource, dict[str, pa.DataType]] = {
    "drift": {
        "model": _TEXT, "kind": _TEXT, "subject": _TEXT, "detector": _TEXT, "severity": _TEXT, "statistic": _NUMBER, "threshold": _NUMBER,
        "detail": _TEXT,
    },
    "incidents": {
        "model": _TEXT, "incident_id": _TEXT, "status": _TEXT, "change": _TEXT, "severity": _TEXT, "opened_as": _TEXT, "root": _TEXT,
        "likely_cause": _TEXT, "action": _TEXT, "findings": _WHOLE, "level": _NUMBER, "detail": _TEXT,
    },
    "health": {"model": _TEXT, "model_version": _TEXT, "window_hours": _NUMBER, **dict.fromkeys(METRICS, _NUMBER)},
    "decisions": {
        "model": _TEXT, "action": _TEXT, "verdict": _TEXT, "trigger": _TEXT, "reason": _TEXT, "operator": _TEXT, "version": _TEXT,
        "decision_id": _TEXT,
    },
    "retraining": {"model": _TEXT, "event": _TEXT, "trigger": _TEXT, "reason": _TEXT, "decision_id": _TEXT},
    "deployments": {"model": _TEXT, "event": _TEXT, "version": _TEXT, "sequence": _WHOLE, "reason": _TEXT, "share": _NUMBER},
    "rejected": {"stage": _TEXT, "reason": _TEXT, "source_topic": _TEXT, "source_partition": _WHOLE, "source_offset": _WHOLE, "detail": _TEXT},
    "progress": {
        "stage": _TEXT, "partition": _WHOLE, "instance": _TEXT, "sequence": _WHOLE, "records_read": _NUMBER, "records_refused": _NUMBER,
        "refused_share": _NUMBER, "paused_topics": _TEXT,
    },
}  # fmt: skip
COLUMNS = {source: pa.schema([*columns.items(), (TIME, pa.timestamp("ms")), (AGE, pa.float64())]) for source, columns in _COLUMNS.items()}
_GROUPS: dict[AlertSource, tuple[str, ...]] = {
    "drift": ("model", "kind", "subject"),
    "incidents": ("model", "incident_id"),
    "health": ("model",),
    "decisions": ("model", "action"),
    "retraining": ("model",),
    "deployments": ("model",),
    "rejected": ("stage", "source_topic", "reason"),
    "progress": ("stage", "partition"),
}


class AlertRuleError(ValueError):
    """A rule that cannot be compiled: which key of it, what was expected there and what came."""

    def __init__(self, key: str, expected: str, came: str) -> None:
        super().__init__(f"{key}: expected {expected}, came {came}")
        self.key, self.expected, self.came = key, expected, came


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule that can be asked of a batch of records.

    Attributes
    ----------
    group
        Columns whose values tell one alert from another.
    is_level
        Whether the newest record of a group says whether the condition holds: of ``incidents``, ``health`` and ``progress``,
        and where the condition names an age.
    ages
        Whether the condition names an age, so that the answer may change while no record comes.
    """

    name: str
    source: AlertSource
    where: Expression | None
    when: Expression
    severity: AlertSeverity
    owner: str
    channels: tuple[str, ...]
    group: tuple[str, ...]
    holds_ms: int
    repeat_ms: int
    resolve_after_ms: int
    once: bool
    summary: str
    is_level: bool
    ages: bool


def compile_rule(name: str, rule: AlertRule, owner: str) -> CompiledRule:
    """Compile a rule.

    Raises
    ------
    AlertRuleError
        An expression does not type-check, or a column does not exist.
    """
    schema = COLUMNS[rule.on]
    where = None if rule.where is None else _condition("where", rule.where, schema)
    when = _condition("when", rule.when, schema)
    if unknown := [column for column in rule.by if column not in schema.names or column in (TIME, AGE)]:
        raise AlertRuleError("by", f"columns of {rule.on}: {', '.join(schema.names[:-2])}", unknown[0])
    ages = AGE in when.compiled.meta.root_names()
    is_level = rule.on in LEVELS or ages
    if rule.once and is_level:
        raise AlertRuleError("once", "a condition that does not name age_s, with once", f"{rule.when!r}")
    group = rule.by or _GROUPS[rule.on]
    return CompiledRule(
        name, rule.on, where, when, rule.severity, rule.owner or owner, rule.channels, group, rule.holds, rule.repeat, rule.resolve_after, rule.once,
        rule.summary or f"{name.replace('_', ' ')}: {rule.when}", is_level, ages,
    )  # fmt: skip


def _condition(key: str, sql: str, schema: pa.Schema) -> Expression:
    try:
        expression = compile_expression(sql, schema)
    except ExpressionError as error:
        raise AlertRuleError(key, f"an SQL condition over {', '.join(schema.names)}", f"{sql!r}: {error}") from error
    if not pa.types.is_boolean(expression.type):
        raise AlertRuleError(key, "a condition, true or false", f"{sql!r}, which is {expression.type}")
    return expression

"""The rules that every application has without writing any."""

from fnmatch import fnmatchcase

from tidemill.shared.application.alert_rules import CompiledRule, compile_rule
from tidemill.shared.application.alerts import AlertRule
from tidemill.shared.application.model import Application
from tidemill.shared.application.schedule import usual_interval_ms

_DAY_S = 86_400
_DAY_MS = _DAY_S * 1000
# Of these a replay has no use: its stages follow each other in slices, and its records are old.
LIVE_ONLY = frozenset({"lag", "stage_down"})
# The archive covers what it has appended, which it gathers for minutes; retraining covers nothing beyond a training that runs.
_PROMPT = "stage NOT IN ('archive', 'retraining')"
_RULES: dict[str, dict[str, object]] = {
    "incident": {
        "on": "incidents", "where": "opened_as <> 'alarm'", "when": "status <> 'resolved'", "repeat": "30d",
        "summary": "{model}: {likely_cause} Done: {action}.",
    },
    # Opened as an alarm, or become one: the notification of the latter says that it is worse.
    "incident_alarm": {
        "on": "incidents", "where": "severity = 'alarm'", "when": "status <> 'resolved'", "severity": "critical", "repeat": "7d",
        "summary": "{model}: {likely_cause} Done: {action}.",
    },
    "dead_letter_share": {
        "on": "progress", "when": "refused_share > 0.1 AND records_read >= 100", "for": "1m",
        "summary": "More than a tenth of what {stage} reads in partition {partition} becomes dead letters",
    },
    "stream_paused": {
        "on": "progress", "when": "paused_topics <> ''", "severity": "critical",
        "summary": "{stage} reads nothing more of {paused_topics} until it is resumed by a command",
    },
    "record_set_aside": {
        "on": "rejected", "when": "reason = 'quarantined'", "severity": "critical",
        "summary": "A record of {source_topic} was set aside: it crashes {stage}",
    },
    "lag": {
        "on": "progress", "where": _PROMPT, "when": "age_s > 60", "for": "1m", "summary": "{stage} is behind in partition {partition}",
    },
    "stage_down": {
        "on": "progress", "where": _PROMPT, "when": "age_s > 300", "severity": "critical",
        "summary": "{stage} has stood still in partition {partition} for 5 minutes",
    },
    "training_failed": {"on": "retraining", "when": "event = 'failed'", "resolve_after": "1d", "summary": "A training of {model} failed"},
    "promotion": {
        "on": "deployments", "when": "event = 'promoted'", "severity": "info", "once": True, "summary": "Version {version} of {model} was promoted",
    },
    "roll_back": {
        "on": "deployments", "when": "event = 'rolled_back'", "severity": "info", "once": True,
        "summary": "{model} was rolled back to version {version}",
    },
}  # fmt: skip


def rules_of(application: Application, *, replay: bool) -> tuple[CompiledRule, ...]:
    """Return the rules in force: the application's, and the defaults that it neither replaces by name nor turns off."""
    alerts = application.alerts
    written = {**alerts.rules}
    if alerts.defaults:
        for name, rule in default_rules(application).items():
            if not any(fnmatchcase(name, pattern) for pattern in alerts.off) and not (replay and name in LIVE_ONLY):
                written.setdefault(name, rule)
    return tuple(compile_rule(name, rule, application.owner) for name, rule in sorted(written.items()))


def default_rules(application: Application) -> dict[str, AlertRule]:
    """Return the default rules; those of a model wait for as long as its labels and its schedule take."""
    rules = {name: AlertRule.model_validate(rule) for name, rule in _RULES.items()}
    for name, model in application.models.items():
        owner, of_model = application.owner_of("models", name), f"model = '{name}'"
        wait = f"{model.label.max_delay + _DAY_MS}ms"
        rules[f"no_labels_{name}"] = AlertRule.model_validate(
            {"on": "health", "where": of_model, "when": "predictions > 0 AND labels = 0", "for": wait, "owner": owner,
             "summary": "Predictions of {model} get no labels"}
        )  # fmt: skip
        if model.retraining.schedule is not None:
            old = 3 * usual_interval_ms(model.retraining.schedule) // 1000
            rules[f"stale_model_{name}"] = AlertRule.model_validate(
                {"on": "deployments", "where": f"{of_model} AND event IN ('promoted', 'rolled_back')", "when": f"age_s > {old}", "repeat": "7d",
                 "owner": owner, "summary": "Nothing newer than version {version} of {model} was promoted for three times its schedule"}
            )  # fmt: skip
    return rules

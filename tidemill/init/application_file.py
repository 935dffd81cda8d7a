"""The application that is written: app.yaml with its reasons beside it, and the Avro schemas it names."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tidemill.init.expectations import expectations
from tidemill.init.names import slug
from tidemill.init.policies import Policies, StageSizes, words_of_days
from tidemill.init.profile import ColumnProfile, Profile
from tidemill.init.question import Question
from tidemill.init.timeline import Timeline, words
from tidemill.init.views import DerivedColumn, WrittenView, derived_columns, views

EVENTS, LABELS = "events", "labels"
_AVRO: dict[str, Any] = {
    "integer": "long",
    "number": "double",
    "boolean": "boolean",
    "text": "string",
    "date": {"type": "int", "logicalType": "date"},
    "time": {"type": "long", "logicalType": "timestamp-millis"},
}
_TIME = _AVRO["time"]
_WITHIN_QUOTES = str.maketrans({'"': '\\"', "\\": "\\\\"})


@dataclass(frozen=True, slots=True)
class Names:
    """Names in the streams of what is no ordinary column.

    Attributes
    ----------
    identity, identity_kind
        The events' id, and its type as `Column` has it.
    time, label_time, label
        Their names in Avro.
    label_column, time_column
        Their names in the file; None where the row number is time.
    """

    application: str
    model: str
    identity: str
    identity_kind: str
    time: str
    label_time: str
    label: str
    label_kind: str
    label_column: str
    time_column: str | None
    identity_column: str | None


@dataclass(frozen=True, slots=True)
class ApplicationDraft:
    """What is said of an application in its file.

    Attributes
    ----------
    notes
        How values of columns were read, where there was something to decide.
    """

    names: Names
    profile: Profile
    question: Question
    times: Timeline
    policies: Policies
    source: str
    form: str
    command: str
    notes: Sequence[str] = ()

    @property
    def carried(self) -> list[ColumnProfile]:
        """Columns of the events' stream."""
        return [one for one in self.profile.columns if one.use != "left out"]

    @property
    def derived(self) -> list[DerivedColumn]:
        """Columns that are computed from times."""
        return derived_columns(self.carried, self.names.time, self.times)

    @property
    def views(self) -> list[WrittenView]:
        """Views of the application."""
        return views(self.carried, self.question, self.times, self.names.model)

    @property
    def features(self) -> list[str]:
        """Names and patterns of the model's features."""
        return [
            *(one.name for one in self.carried if one.is_feature),
            *(one.name for one in self.derived),
            *(f"{view.name}.*" for view in self.views),
        ]


def event_schema(written: ApplicationDraft) -> str:
    """Return the Avro schema of the requests; a column may be null, so that a gap is an answer with a flag and no dead letter."""
    names = written.names
    fields: list[dict[str, Any]] = [
        _field(names.identity, _AVRO[names.identity_kind], names.identity_column or "number of the row"),
        _field(names.time, _TIME, names.time_column or "when it was asked"),
    ]
    for one in written.carried:
        fields.append({**_field(one.name, ["null", _AVRO[one.column.kind]], one.column.name), "default": None})
    return _schema("Event", names.application, f"A request: one row of {written.source} without its label.", fields)


def label_schema(written: ApplicationDraft) -> str:
    """Return the Avro schema of the labels."""
    names = written.names
    fields = [
        _field(names.identity, _AVRO[names.identity_kind], f"the request's {names.identity}"),
        _field(names.label_time, _TIME, "when the truth became known"),
        _field(names.label, _AVRO[names.label_kind], names.label_column),
    ]
    return _schema("Label", names.application, f"What became of a request: the column {names.label_column} of {written.source}.", fields)


def _field(name: str, kind: Any, doc: str) -> dict[str, Any]:  # noqa: ANN401, RUF100 - an Avro type
    return {"name": name, "type": kind, "doc": doc}


def _schema(name: str, application: str, doc: str, fields: Sequence[dict[str, Any]]) -> str:
    head = json.dumps({"type": "record", "name": name, "namespace": application.replace("-", "_"), "doc": doc}, ensure_ascii=False)
    body = ",\n    ".join(json.dumps(field, ensure_ascii=False) for field in fields)
    return f'{head[:-1]},\n  "fields": [\n    {body}\n  ]}}\n'


def application_text(written: ApplicationDraft) -> str:
    """Return app.yaml."""
    names = written.names
    lines = [*_head(written), *_streams(written)]
    entities = [one for one in written.carried if one.use == "entity"]
    if entities:
        ttl = words(max(1, -(-2 * written.times.span_ms // 86_400_000)) * 86_400_000)
        lines += ["entities:"] + [f"  {slug(one.name, 'entity')}: {{from: {{{EVENTS}: {one.name}}}, ttl: {ttl}}}" for one in entities]
    if written.views:
        lines.append("views:")
        for view in written.views:
            lines += [f"  # {view.why}", f"  {view.name}: {view.text}"]
    lines += [f"models:\n  {names.model}:", *(f"    {line}" for line in _model(written))]
    return "\n".join(lines) + "\n"


def _head(written: ApplicationDraft) -> list[str]:
    question, names = written.question, written.names
    return [
        f"# Written by `tidemill init` from {_comment(written.source)} ({written.form}, {len(written.times.rows):,} rows):",
        f"#   {_comment(written.command)}",
        f"# It asks: what is {_comment(names.label_column)}? ({question.kind}: {_comment(question.evidence)})",
        *(f"# Read so: {_comment(note)}" for note in written.notes),
        "# Everything here is yours to change; `tidemill check` says what is wrong, with its line. Every key: docs/reference/application.md.",
        f"app: {names.application}",
        "owner: owner@example.org   # who answers for it",
        f"partition_by: {names.identity}",
        "partitions: 1",
    ]


def _streams(written: ApplicationDraft) -> list[str]:
    names = written.names
    lines = [
        "streams:",
        f"  {EVENTS}:   # requests: each is answered with a prediction",
        f"    topic: {names.application}-{EVENTS}",
        "    schema: schemas/event.avsc",
        f"    event_id: {names.identity}",
        f"    event_time: {names.time}",
        "    allowed_lateness: 1h",
    ]
    if written.derived:
        lines.append("    derive:")
        lines += [f"      {one.name}: {_quote(one.sql)}   # {one.why}" for one in written.derived]
    expected = expectations(written.carried, len(written.times.rows))
    if expected:
        lines.append("    # As the table is. A record that breaks one is answered all the same; with `otherwise: reject` it is a dead letter.")
        lines.append("    expect:")
        for one in expected:
            lines.append(f"      - {{name: {_quote(one.name)}, check: {_quote(one.check)}, otherwise: flag}}   # {_comment(one.evidence)}")
    lines += [
        f"  {LABELS}:   # what became of them, later",
        f"    topic: {names.application}-{LABELS}",
        "    schema: schemas/label.avsc",
        f"    event_id: {names.identity}",
        f"    event_time: {names.label_time}",
        "    allowed_lateness: 1h",
    ]
    return lines


def _model(written: ApplicationDraft) -> list[str]:
    question, policy = written.question, written.policies
    lines = [f"kind: {question.kind}", f"ask: {EVENTS}"]
    left = [one for one in written.profile.columns if not one.is_feature]
    lines += [f"# Not a feature: {_comment(one.column.name)} ({_comment(one.why)})" for one in left]
    lines += ["features:"] + [f"  - {_quote(name) if '*' in name else name}" for name in written.features]
    lines += _label(written)
    lines += [*_fallback(question), "# Labels until the first model, and the rest between two trainings."]
    schedule = policy.schedule or "null"
    why = "" if policy.schedule else "   # the table ends long ago; with live events, for example 30d"
    lines.append(
        f"retraining: {{bootstrap_labels: {policy.bootstrap_labels}, cool_down: {policy.cool_down}, schedule: {schedule},"
        f" budget_per_30d: {policy.budget_per_30d}}}{why}"
    )
    lines.append(f"# {words_of_days(policy.holdout_days)} choose among the trials, and as much judges the winner, in blocks of {policy.block}.")
    few = f", min_positives: {policy.min_positives}" if question.kind != "regression" else ""
    lines.append(
        f"training: {{trials: {policy.trials}, windows_days: [{', '.join(map(str, policy.windows_days))}], holdout_days: {policy.holdout_days},"
        f" min_rows: {policy.min_rows}{few}}}"
    )
    lines.append(f"gate: {{min_rows: {policy.gate_min_rows}, block: {policy.block}}}")
    return lines + _stages(policy.stages)


def _stages(sizes: StageSizes) -> list[str]:
    return [
        "# A new recipe that has passed the gate first scores everything and answers nobody (shadow), then answers a share of the requests (canary);",
        "# it goes back by itself where it does worse. A first model and a refit that an alarm asked for answer at once, any other refit once it has",
        "# done no worse as a canary. Without `stages` all answer at once.",
        "stages:",
        f"  shadow: {{for: {sizes.shadow}, labels: {sizes.shadow_labels}}}   # so long, with so many labels, at least",
        f"  canary: {{share: 0.1, for: {sizes.canary}, labels: {sizes.canary_labels}}}   # of the requests, by the hash of their keys",
        "  refits: canary_unless_drift   # or canary: all refits answer a share first; or direct: none does",
        f"  longest: {sizes.longest}   # what is not shown to be no worse by then leaves",
    ]


def _label(written: ApplicationDraft) -> list[str]:
    names, question, policy = written.names, written.question, written.policies
    value = f'"{names.label}"'
    parts = [f"stream: {LABELS}", f"join: {names.identity}", f"value: {_quote(value)}"]
    if question.values:
        parts.append(
            "values: {"
            + ", ".join(f"{_quote(key) if isinstance(key, str) else json.dumps(key)}: {index}" for key, index in question.values.items())
            + "}"
        )
    parts += [f"max_delay: {policy.max_delay}", "on_timeout: unlabelled", "corrections: first"]
    lines = [f"label: {{{', '.join(parts)}}}"]
    if question.kind == "multiclass":
        rows = ", ".join(f"{_comment(name)} {count:,}" for name, count in question.counts.items())
        declared = "learned" if question.learned else f"[{', '.join(_quote(name) for name in question.classes)}]"
        lines = [f"classes: {declared}   # rows: {rows}", *lines]
    return lines


def _fallback(question: Question) -> list[str]:
    if question.learned:
        return ["# Without a model no class is answered."]
    if question.kind == "binary":
        return [f"fallback: {{default: {question.mean:.4g}}}   # the share of {_comment(question.classes[1])}: what is answered without a model"]
    if question.kind == "regression":
        return [f"fallback: {{default: {question.mean:.6g}}}   # the mean: what is answered without a model"]
    shares = ", ".join(f"{_quote(name)}: {count / max(1, question.known):.6g}" for name, count in question.counts.items())
    return [f"fallback: {{default: {{{shares}}}}}   # their shares: what is answered without a model"]


def _quote(text: str) -> str:
    r"""Return a text as YAML has it: in single quotes, or in double ones if line ends or other characters that no line shows are in it.

    >>> _quote("it's"), _quote("two\nlines")
    ("'it''s'", '"two\\nlines"')
    """
    if text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    return '"' + "".join(letter if letter.isprintable() else _escaped(letter) for letter in text.translate(_WITHIN_QUOTES)) + '"'


def _escaped(letter: str) -> str:
    return "\\n" if letter == "\n" else f"\\U{ord(letter):08x}"


def _comment(text: str) -> str:
    """Return a text that stays in its line, of characters that YAML takes."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())

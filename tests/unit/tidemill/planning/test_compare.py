"""What a plan says of a changed application: each kind of change by name, and each that a run cannot take over refused with the way out."""

from pathlib import Path

import numpy as np
import pytest

from tests.linear_models import linear_artifact
from tests.unit.tidemill.planning.changed import EXAMPLE, SECOND_MODEL, changed, changed_plan
from tidemill.planning.compare import compare
from tidemill.planning.difference import ApplicationChange, Difference
from tidemill.planning.make_plan import make_plan
from tidemill.planning.running_application import RunningApplication
from tidemill.shared.application.application_files import content_digest
from tidemill.shared.application.planning import load_plan
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.models.deployments import ModelDeployment
from tidemill.shared.models.signature import Column

RUNNING = load_plan(EXAMPLE)
SPENDING = "account_spending: {entity: account, source: payments, value: amount, aggregate"
HABIT = "  account_habit: {entity: account, source: payments, value: amount, aggregate: [mean, std, count, zscore, {lag: 1}], windows: [all]}\n"
LABEL = 'label: {stream: chargebacks, join: payment_id, value: "TRUE", max_delay: 2d, on_timeout: negative, corrections: first}'
LAST = "holdout_days: 3, min_rows: 1500}"


def difference(folder: Path, *edits: tuple[str, str], schema: tuple[str, str] | None = None) -> Difference:
    return compare(RUNNING, changed_plan(folder / "changed", *edits, schema=schema))


def only(difference_given: Difference) -> ApplicationChange:
    assert len(difference_given.changes) == 1 and difference_given.can_be_applied, difference_given
    return difference_given.changes[0]


def test_the_same_application_changes_nothing_however_it_is_written(tmp_path: Path) -> None:
    # The views move to a file of their own, and a comment is gone.
    folder = tmp_path / "changed"
    plan = changed_plan(folder, ("# Card payments: is this one fraud?", "#"))
    text = (folder / "app.yaml").read_text()
    begin, end = text.index("views:\n"), text.index("models:\n")
    (folder / "views").mkdir()
    (folder / "views" / "all.yaml").write_text("\n".join(line.removeprefix("  ") for line in text[begin:end].splitlines()[1:]) + "\n")
    (folder / "app.yaml").write_text(text[:begin] + text[end:])
    assert load_plan(folder).application_hash == plan.application_hash
    changes = compare(RUNNING, load_plan(folder))
    assert changes.is_empty and changes == Difference()


def test_a_changed_view_is_a_new_version_with_its_columns(tmp_path: Path) -> None:
    changes = difference(tmp_path, (SPENDING, SPENDING.replace("value", "where: amount > 10, value")))
    change, model = changes.changes
    assert changes.can_be_applied and model.name == "fraud" and "retrained" in model.effects[0]
    assert (change.section, change.name, change.action, change.details) == (
        "views",
        "account_spending",
        "changed",
        ("where: nothing -> amount > 10",),
    )
    own = {one.name for one in RUNNING.features if one.source == "account_spending"}
    assert set(changes.columns.changed) == own and not changes.columns.added and not changes.columns.removed
    assert len(changes.warnings) == 1 and "its champion goes on with" in changes.warnings[0]


def test_an_added_window_adds_columns_and_touches_no_other(tmp_path: Path) -> None:
    changes = difference(tmp_path, ("windows: [5m, 1h, 24h]", "windows: [5m, 1h, 24h, 3d]"))
    assert changes.can_be_applied and [(change.section, change.action) for change in changes.changes] == [("views", "changed"), ("models", "changed")]
    assert changes.columns.added and all(name.endswith("_3d") for name in changes.columns.added)
    assert not changes.columns.changed and not changes.columns.removed and not changes.warnings
    assert "retrained" in " ".join(changes.changes[1].effects)


def test_models_are_added_removed_and_changed_by_policy(tmp_path: Path) -> None:
    added = only(difference(tmp_path / "a", (LAST, LAST + SECOND_MODEL)))
    assert (added.section, added.name, added.action) == ("models", "large", "added") and "fallback" in added.effects[0]
    both = changed_plan(tmp_path / "both", (LAST, LAST + SECOND_MODEL))
    removed = compare(both, RUNNING)
    assert [(one.name, one.action) for one in removed.changes] == [("large", "removed")] and removed.can_be_applied
    gated = only(difference(tmp_path / "g", ("    training: {trials: 4", "    gate: {margin: .01}\n    training: {trials: 4")))
    assert gated.details == ("gate.margin: nothing -> 0.01",) and "re-gated" in gated.effects[0]
    searched = only(difference(tmp_path / "t", ("trials: 4", "trials: 5")))
    assert searched.details == ("training.trials: 4 -> 5",) and "retrained" in searched.effects[0]


def test_alerts_alone_restart_alerts_alone(tmp_path: Path) -> None:
    changes = difference(tmp_path, ("entities:\n", "alerts: {group_wait: 30s}\nentities:\n"))
    assert only(changes).section == "alerts" and changes.restarts == ("alerts",)


def test_an_added_stream_is_a_topic_to_create_and_its_schema_follows_avros_rules(tmp_path: Path) -> None:
    stream = "entities:\n"
    added = "  visits:\n    topic: payments-visits\n    schema: schemas/payment.avsc\n    event_id: payment_id\n    event_time: event_time\n"
    changes = difference(tmp_path, (stream, added + stream))
    assert only(changes).name == "visits" and changes.topics == ("payments-visits",)
    field = '{"name": "currency", "type": "string"}'
    new = difference(tmp_path / "new", schema=(field, field + ', {"name": "channel", "type": ["null", "string"], "default": null}'))
    assert new.can_be_applied and "schema: +channel" in new.changes[0].details


REFUSED = {
    "app": (("app: payments", "app: pay"),),
    "partition_by": (("partition_by: account_id", "partition_by: payment_id"),),
    "partitions": (("partitions: 1", "partitions: 4"),),
    "topology": (("partitions: 1", "partitions: 1\ntopology: separate"),),
    "topic": (("topic: payments-payments", "topic: payments-events"),),
    "event_id": (("    event_id: payment_id\n    event_time: event_time", "    event_id: account_id\n    event_time: event_time"),),
    "entity_key": (("from: {payments: account_id, chargebacks: account_id}", "from: {payments: merchant_id, chargebacks: account_id}"),),
    "model_label": ((LABEL, LABEL.replace("2d", "4d")),),
    "model_kind": (("kind: binary", "kind: regression"), (LABEL, LABEL.replace("negative", "unlabelled"))),
    "column_leaves": (("features: [amount, currency,", "features: [amount,"),),
}


@pytest.mark.parametrize("code", REFUSED)
def test_what_a_run_cannot_become_is_refused_by_name_with_the_way_out(code: str, tmp_path: Path) -> None:
    changes = difference(tmp_path, *REFUSED[code])
    assert code in {refusal.code for refusal in changes.refusals}, changes.refusals
    assert not changes.can_be_applied and changes.changes
    for refusal in changes.refusals:
        assert refusal.where and refusal.why and any(word in refusal.way_out for word in ("declare", "start", "name", "leave")), refusal


def test_a_stream_that_is_gone_or_of_another_kind_or_key_is_refused(tmp_path: Path) -> None:
    added = "  visits:\n    topic: payments-visits\n    schema: schemas/payment.avsc\n    event_id: payment_id\n    event_time: event_time\n"
    wider = changed_plan(tmp_path / "wider", ("entities:\n", added + "entities:\n"))
    assert {refusal.code for refusal in compare(wider, RUNNING).refusals} == {"stream_removed"}
    keyed = changed_plan(tmp_path / "keyed", ("entities:\n", added + "    key: merchant_id\n" + "entities:\n"))
    assert {refusal.code for refusal in compare(wider, keyed).refusals} == {"stream_key"}
    reference = added.replace("    event_id: payment_id\n", "    key: merchant_id\n    kind: reference\n    max_age: 1d\n")
    other = changed_plan(tmp_path / "kind", ("entities:\n", reference + "entities:\n"))
    assert "stream_kind" in {refusal.code for refusal in compare(wider, other).refusals}


@pytest.mark.parametrize(
    ("schema", "code"),
    [
        (('{"name": "currency", "type": "string"}', '{"name": "currency", "type": "string"}, {"name": "channel", "type": "string"}'), "schema"),
        (('{"name": "amount", "type": "double"}', '{"name": "amount", "type": "float"}'), "schema"),
        (('{"name": "amount", "type": "double"}', '{"name": "amount", "type": "float"}'), "column_type"),
    ],
)
def test_a_schema_that_cannot_read_what_is_written_is_refused(tmp_path: Path, schema: tuple[str, str], code: str) -> None:
    changes = difference(tmp_path, schema=schema)
    assert code in {refusal.code for refusal in changes.refusals}, changes


def test_a_derived_column_cannot_be_computed_over_entries_that_lack_it(tmp_path: Path) -> None:
    derive = ("    event_time: event_time\n", '    event_time: event_time\n    derive: {cents: "amount * 100"}\n')
    with_view = (HABIT, HABIT + "  cents_spent: {entity: account, source: payments, value: cents, aggregate: [sum], windows: [1h]}\n")
    plain = difference(tmp_path / "plain", derive)
    assert plain.can_be_applied, "an event's own column is there from the switch on"
    read = difference(tmp_path / "read", derive, with_view)
    assert [refusal.code for refusal in read.refusals] == ["derived_column"] and "views.cents_spent" in read.refusals[0].why
    before = changed_plan(tmp_path / "before", derive)
    after = changed_plan(tmp_path / "after", (derive[0], derive[1].replace("* 100", "* 1000")))
    assert [refusal.code for refusal in compare(before, after).refusals] == ["derived_column"]


def test_a_column_that_changes_its_type_is_refused(tmp_path: Path) -> None:
    derive = '    derive: {note: "amount * 2"}\n'
    features = ("features: [amount,", "features: [note, amount,")
    place = ("    event_time: event_time\n", "    event_time: event_time\n")
    number = changed_plan(tmp_path / "number", (place[0], place[1] + derive), features)
    text = changed_plan(tmp_path / "text", (place[0], place[1] + derive.replace("amount * 2", "currency || country")), features)
    assert {"column_type", "derived_column"} == {refusal.code for refusal in compare(number, text).refusals}


def test_another_event_time_and_another_envelope_are_refused(tmp_path: Path) -> None:
    captured = '{"name": "currency", "type": "string"}'
    schema = (captured, captured + ', {"name": "captured_at", "type": {"type": "long", "logicalType": "timestamp-millis"}, "default": 0}')
    moved = difference(
        tmp_path / "time",
        ("    event_id: payment_id\n    event_time: event_time", "    event_id: payment_id\n    event_time: captured_at"),
        schema=schema,
    )
    (refusal,) = moved.refusals
    assert refusal.code == "event_time" and refusal.where == "streams.payments.event_time"
    assert "event_time cannot become captured_at" in refusal.why and "declare a stream of another name" in refusal.way_out
    keys = "event_id: payment_id\n    event_time: event_time"
    wrapped = difference(tmp_path / "envelope", (keys, keys + "\n    envelope: debezium\n    updates: skip"))
    (refusal,) = [one for one in wrapped.refusals if one.code == "envelope"]
    assert refusal.where == "streams.payments.envelope" and "None cannot become debezium" in refusal.why


CLASSES = """
  size:
    kind: multiclass
    classes: [small, large]
    ask: payments
    features: [currency]
    label: {stream: chargebacks, join: payment_id, value: "CASE WHEN payment_id > 'm' THEN 'small' ELSE 'large' END", max_delay: 2d}
    fallback: {default: small}
"""


@pytest.mark.parametrize(
    ("code", "edit"),
    [("model_classes", ("[small, large]", "[small, middle, large]")), ("model_ask", ("ask: payments", "ask: visits"))],
)
def test_a_model_whose_classes_or_stream_are_others_is_refused(code: str, edit: tuple[str, str], tmp_path: Path) -> None:
    visits = "  visits:\n    topic: payments-visits\n    schema: schemas/payment.avsc\n    event_id: payment_id\n    event_time: event_time\n"
    streams = ("entities:\n", visits + "entities:\n")
    old = changed_plan(tmp_path / "old", streams, (LAST, LAST + CLASSES))
    new = changed_plan(tmp_path / "new", streams, (LAST, LAST + CLASSES.replace(*edit)))
    (refusal,) = compare(old, new).refusals
    assert (refusal.code, refusal.where) == (code, f"models.size.{code.removeprefix('model_')}")
    assert "cannot become another one" in refusal.why and "another name" in refusal.way_out


def test_a_champion_that_reads_what_would_be_gone_is_refused_by_its_version(tmp_path: Path) -> None:
    """Its model's list has left the column out since it was trained, and another model alone keeps it in the vectors so far."""
    old = changed(
        tmp_path / "old",
        (LAST, LAST + SECOND_MODEL.replace("[currency, account_spending.*]", "[merchant_id]")),
        ("country, merchant_id,", "country,"),
    )
    new = changed(tmp_path / "new", ("country, merchant_id,", "country,"))
    store = ArtifactStore(str(tmp_path / "artifacts"))
    columns = (Column(name="amount", type="double"), Column(name="merchant_id", type="string", codes={"m1": 1.0}))
    address = store.put(linear_artifact("binary", np.ones((2, 1)), "v7", columns=columns).to_bytes())
    running = RunningApplication(
        old, load_plan(old), content_digest(old), {"fraud": ModelDeployment("v7", address, 3, 0.5)}, 0, "", str(tmp_path / "artifacts")
    )
    changes = make_plan(running, new, measured=False).difference
    (refusal,) = [one for one in changes.refusals if one.code == "champion"]
    assert refusal.where == "models.fraud" and "its champion v7 could not answer any more" in refusal.why and "merchant_id" in refusal.why
    assert "until a model that does not read it serves" in refusal.way_out and not changes.can_be_applied
    unread = make_plan(running, old, measured=False).difference
    assert unread.is_empty, "while the column is there, nothing is refused"

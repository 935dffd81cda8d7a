"""Control as a task: what it decided it knows again after any restart, commands between findings included."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.services.drift.stream import shop
from tidemill.runs.watch import record_codec
from tidemill.services.control.task import ControlTask
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.commands.signing import RESUME_STREAM, signature, signed_command
from tidemill.shared.log.records import Records, StateEntry, Step, TopicPartition
from tidemill.shared.runner.progress import Progress
from tidemill.shared.runner.task import StepContext

DAY = 86_400_000
SCHEMAS = Path(__file__).parents[4] / "schemas"
KEY = b"the key of the control plane"
CONTEXT = StepContext(now_ms=0)


class World:
    """The topics around control, and its state as the checkpoint topic would hold it."""

    def __init__(self, folder: Path) -> None:
        self.plan: Plan = shop(folder)
        self.registry = MemorySchemaRegistry()
        topics = self.plan.topics
        names = {topics.drift: "Drift", topics.progress("drift"): "Progress", topics.commands: "Command", topics.decisions: "Decision"}
        names |= {topics.found_incidents: "Incident", topics.incidents: "Incident", topics.trials: "Trial"}
        names |= {topics.retraining: "Retraining", topics.deployments: "Deployment"}
        self.codecs = {topic: record_codec(self.registry, topic, name) for topic, name in names.items()}
        self.codecs[topics.scoring_times] = message_codec(self.registry, topics.scoring_times, "scoring-time")
        self.marks: list[int] = []
        self.topics: dict[str, list[bytes]] = {topic: [] for topic in self.codecs}
        self.state: dict[bytes, bytes | None] = {}
        self.last = Step([], {}, ControlTask(self.plan, self.registry).coverage)
        self.start()

    def start(self) -> None:
        self.task = ControlTask(self.plan, self.registry, KEY)
        own = (self.plan.topics.decisions, self.plan.topics.incidents)
        self.read = {topic: self.last.positions.get(TopicPartition(topic, 0), 0) for topic in self.topics if topic not in own}

    def restart(self) -> None:
        self.start()
        self.task.restore([StateEntry(key, value) for key, value in self.state.items()])
        self.task.resume(
            self.last.positions,
            {self.plan.topics.decisions: len(self.topics[self.plan.topics.decisions])},
            self.last.coverage.offset,
            self.last.coverage.time_ms,
        )

    def find(self, number: int, time: int) -> None:
        record = {
            "drift_id": f"d{number}", "model": "sent_back", "kind": "loss", "subject": "loss", "detector": "adwin", "severity": "alarm",
            "journal_partition": 0, "journal_offset": number, "journal_time": time, "statistic": 1.0, "threshold": 0.1, "detail": "worse",
            "evidence": {},
        }  # fmt: skip
        self.topics[self.plan.topics.drift].append(self.codecs[self.plan.topics.drift].encode(record))
        self.cover(time + 1)

    def incident(self, status: str, drift_ids: list[str], time: int) -> None:
        """What drift says after the findings of an instant."""
        example = json.loads((SCHEMAS / "examples" / "incident.json").read_text(encoding="utf-8"))[0]
        change = {"open": "opened", "ongoing": "joined", "resolved": "resolved"}[status]
        record = {**example, "model": "sent_back", "status": status, "change": change, "drift_ids": drift_ids, "action": "", "decisions": []}
        self.append(self.plan.topics.found_incidents, {**record, "journal_partition": 0, "journal_offset": len(drift_ids), "journal_time": time})
        self.cover(time + 1)

    def append(self, topic: str, record: dict[str, Any]) -> None:
        self.topics[topic].append(self.codecs[topic].encode(record))

    def cover(self, time: int) -> None:
        topic = self.plan.topics.progress("drift")
        said = {name: len(self.topics[name]) for name in (self.plan.topics.drift, self.plan.topics.found_incidents)}
        self.topics[topic].append(Progress("drift", 0, covered_time=time, outputs=said).encode(self.codecs[topic]))

    def order(self, name: str, command: str) -> None:
        topic = self.plan.topics.commands
        record = signed_command(KEY, "sent_back", command, "because", name, issued_at=0)
        self.topics[topic].append(self.codecs[topic].encode(record))

    def step(self) -> list[dict[str, Any]]:
        inputs = []
        for topic, begin in self.read.items():
            values = self.topics[topic][begin:]
            if values:
                inputs.append(Records(topic, 0, np.arange(begin, begin + len(values)), np.zeros(len(values), np.int64), [b""] * len(values), values))
            self.read[topic] = len(self.topics[topic])
        self.last = self.task.process(inputs, CONTEXT)
        checkpoint = self.task.checkpoint(0)
        assert {**self.last.positions, **checkpoint.marker} == self.last.positions, "nothing is left to replay"
        self.state.update({entry.key: entry.value for entry in checkpoint.entries})
        topic = self.plan.topics.decisions
        said = [value or b"" for emission in self.last.emissions if emission.topic == topic for value in emission.values]
        self.topics[topic] += said
        incidents = self.plan.topics.incidents
        self.topics[incidents] += [value or b"" for emission in self.last.emissions if emission.topic == incidents for value in emission.values]
        self.marks += [mark["journal_time"] for mark in self.flush_marks()]
        return [self.codecs[topic].decode(value) for value in said]

    def flush_marks(self) -> list[dict[str, Any]]:
        topic = self.plan.topics.flush_marks
        codec = RecordCodec(self.registry, f"{topic}-tidemill.FlushMark", (SCHEMAS / "flush-mark.avsc").read_text())
        return [codec.decode(value or b"") for emission in self.last.emissions if emission.topic == topic for value in emission.values]


def play(folder: Path, restart_at: int | None) -> list[tuple[str, str]]:
    """A pause between two alarms, a resume, repeated commands; a restart before step number `restart_at`."""
    folder.mkdir()
    world, said = World(folder), []
    script: list[Callable[[], None]] = [
        lambda: world.order("p", "pause"),
        lambda: world.find(1, 10 * DAY),
        lambda: world.order("r", "resume"),
        lambda: world.find(2, 10 * DAY + 5),
        lambda: world.order("b", "roll_back"),
        lambda: world.order("b", "roll_back"),
        lambda: world.find(3, 14 * DAY),
        lambda: world.cover(100 * DAY),
    ]
    for number, act in enumerate(script):
        act()
        if number == restart_at:
            world.restart()
        said += [(record["verdict"], record["decision_id"]) for record in world.step()]
    numbers = [world.codecs[world.plan.topics.decisions].decode(value)["sequence"] for value in world.topics[world.plan.topics.decisions]]
    assert numbers == list(range(len(said))), "the worker tells by them how many it has read"
    return said


def test_commands_and_findings_keep_their_order_over_a_restart_at_any_step(tmp_path: Path) -> None:
    expected = play(tmp_path / "whole", None)
    assert [verdict for verdict, _ in expected][:7] == ["obeyed", "skipped", "obeyed", "requested", "requested", "refused", "requested"]
    assert all(play(tmp_path / str(at), at) == expected for at in range(8))


@pytest.mark.parametrize("restarted", [False, True])
def test_a_command_ahead_of_all_journal_time_waits_for_it(tmp_path: Path, restarted: bool) -> None:
    """Dated 1970, it would be trained on nothing, and followed by the schedule of all the years since."""
    world = World(tmp_path)
    world.order("t", "retrain")
    world.order("p", "pause")
    assert world.step() == [] and TopicPartition(world.plan.topics.commands, 0) not in world.last.positions
    if restarted:
        world.restart()
        assert world.step() == []
    world.cover(20_000 * DAY)
    said = world.step()
    assert [(record["verdict"], record["trigger"], record["journal_time"]) for record in said] == [
        ("requested", "manual", 20_000 * DAY), ("obeyed", "manual", 20_000 * DAY),
    ]  # fmt: skip
    assert world.last.positions[TopicPartition(world.plan.topics.commands, 0)] == 2
    world.cover(20_001 * DAY)
    assert world.step() == []


def test_an_idle_control_writes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.find(1, DAY)
    world.step()
    again = world.task.process([], CONTEXT)
    assert not again.emissions and again.positions == world.last.positions
    assert not world.task.checkpoint(0).entries


@pytest.mark.parametrize("value", [b"nonsense", b"\x00\x00\x00\x00\x63abc"])
def test_what_is_no_command_is_answered_in_public(tmp_path: Path, value: bytes) -> None:
    world = World(tmp_path)
    world.topics[world.plan.topics.commands].append(value)
    (answer,) = world.step()
    assert (answer["action"], answer["verdict"]) == ("unknown", "refused") and "unreadable" in answer["reason"]


def test_a_command_to_a_stream_is_not_controls_to_answer(tmp_path: Path) -> None:
    world = World(tmp_path)
    topic = world.plan.topics.commands
    signed = signed_command(KEY, "sent_back", RESUME_STREAM, "mended")
    world.topics[topic] += [world.codecs[topic].encode(record) for record in (signed, {**signed, "signature": ""})]
    assert world.step() == []


@pytest.mark.parametrize("field", ["command_id", "model", "command", "reason", "issued_at", "signature"])
def test_a_command_that_is_not_signed_as_it_stands_is_answered_and_not_obeyed(tmp_path: Path, field: str) -> None:
    world = World(tmp_path)
    world.cover(DAY)
    topic = world.plan.topics.commands
    right = signed_command(KEY, "sent_back", "retrain", "because", "one", issued_at=7)
    changed = {"command_id": "two", "model": "other", "command": "roll_back", "reason": "", "issued_at": 8, "signature": ""}[field]
    forged = [{**right, field: changed}, {**right, "signature": signature(right, b"another key")}, {**right, "signature": "v1:\u00e9"}]
    world.topics[topic] += [world.codecs[topic].encode(record) for record in forged]
    answers = world.step()
    assert [answer["verdict"] for answer in answers] == ["refused"] * 3 and all("unsigned" in answer["reason"] for answer in answers)
    assert len({answer["decision_id"] for answer in answers}) == 3
    world.topics[topic].append(world.codecs[topic].encode(right))
    assert [answer["verdict"] for answer in world.step()] == ["requested"], "a forged copy does not use up the id of the right one"


def test_new_limits_apply_to_what_was_really_asked_for(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.find(1, 10 * DAY)
    world.find(2, 10 * DAY + 5)
    assert [record["verdict"] for record in world.step()] == ["requested", "skipped"]
    kept, file = world.task.versions(), tmp_path / "app.yaml"
    written = file.read_text()
    file.write_text(written.replace("{bootstrap_labels: 500}", "{bootstrap_labels: 500, cool_down: 1ms, budget_per_30d: 2}"))
    assert file.read_text() != written
    world.plan = load_plan(tmp_path)
    world.restart()
    assert world.task.versions() == kept, "the runner keeps the state"
    # Decided anew, the second finding would count as a request and the budget would be spent.
    world.find(3, 11 * DAY)
    world.find(4, 12 * DAY)
    assert [record["verdict"] for record in world.step()] == ["requested", "skipped"]


def test_the_archive_is_told_of_trainings_and_of_nothing_else(tmp_path: Path) -> None:
    """A roll-back, a pause and a finding within the cool-down need nothing from the lake."""
    world = World(tmp_path)
    world.find(1, 10 * DAY)
    world.find(2, 10 * DAY + 5)
    world.order("b", "roll_back")
    world.order("p", "pause")
    world.step()
    world.order("t", "retrain")
    world.step()
    assert world.marks == [10 * DAY, 10 * DAY + 6]


def answer(decision: dict[str, Any], event: str, reason: str) -> dict[str, Any]:
    place = {name: decision[name] for name in ("decision_id", "model", "trigger", "journal_partition", "journal_offset", "journal_time")}
    return {**place, "event": event, "reason": reason, "figures": {}, "details": {}}


def follow(folder: Path, restart_at: int | None) -> list[dict[str, Any]]:
    """An incident of a loss: a training is asked for, another is not, somebody pauses, the training ends after the incident does."""
    folder.mkdir()
    world = World(folder)
    topics, time = world.plan.topics, 10 * DAY
    asked: list[dict[str, Any]] = []

    def opened() -> None:
        world.find(1, time)
        world.incident("open", ["d1"], time)

    def joined() -> None:
        world.find(2, time + 5)
        world.incident("ongoing", ["d1", "d2"], time + 5)

    script: list[Callable[[], None]] = [
        opened,
        joined,
        lambda: world.append(topics.retraining, answer(asked[0], "started", "adwin: worse")),
        lambda: world.order("p", "pause"),
        lambda: world.incident("resolved", ["d1", "d2"], time + DAY),
        lambda: world.append(topics.retraining, answer(asked[0], "finished", "v7 promoted: the loss is lower")),
        lambda: world.append(topics.retraining, answer(asked[0], "finished", "v7 promoted: the loss is lower")),
        lambda: world.order("r", "resume"),
    ]
    for number, act in enumerate(script):
        act()
        if number == restart_at:
            world.restart()
        asked += [one for one in world.step() if one["verdict"] == "requested"]
    assert len(asked) == 1
    return [world.codecs[topics.incidents].decode(value) for value in world.topics[topics.incidents]]


def test_an_incident_says_what_was_decided_and_what_became_of_it(tmp_path: Path) -> None:
    said = follow(tmp_path / "whole", None)
    assert [(one["number"], one["change"], one["status"]) for one in said] == [
        (1, "opened", "open"), (2, "joined", "ongoing"), (3, "acted", "ongoing"), (4, "acted", "ongoing"), (5, "resolved", "resolved"),
        (6, "acted", "resolved"),
    ], "and no more: what is over and answered is forgotten"  # fmt: skip
    identity = said[0]["decisions"][0]["decision_id"]
    assert said[0]["action"] == f"training {identity[:8]} asked for", "the record that opens it knows"
    assert said[1]["action"] == f"training {identity[:8]} asked for; no training: cool-down: 0 h after the last request"
    assert f"training {identity[:8]} started" in said[2]["action"] and "pause by command" in said[3]["action"]
    last = said[-1]
    assert f"training {identity[:8]}: v7 promoted: the loss is lower" in last["action"]
    assert [(one["action"], one["verdict"], one["trigger"], one["outcome"]) for one in last["decisions"]] == [
        ("train", "requested", "drift", "finished"), ("train", "skipped", "drift", ""), ("pause", "obeyed", "manual", ""),
    ]  # fmt: skip
    assert last["decisions"][0]["result"] == "v7 promoted: the loss is lower"
    assert last["journal_time"] == said[-2]["journal_time"], "time does not go back to the decision's"


def test_what_is_said_of_an_incident_is_the_same_over_a_restart_at_any_step(tmp_path: Path) -> None:
    expected = follow(tmp_path / "whole", None)
    assert all(follow(tmp_path / str(at), at) == expected for at in range(8))


def test_what_trainings_took_is_read_from_their_records_and_outlives_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    world = World(folder)
    file, hashed = folder / "app.yaml", world.plan.application_hash
    written = file.read_text()
    file.write_text(written.replace("{bootstrap_labels: 500}", "{bootstrap_labels: 500, cool_down: 1ms, cpu_per_day: 10m}"))
    assert file.read_text() != written
    world.plan = load_plan(folder)
    file.write_text(written.replace("{bootstrap_labels: 500}", "{bootstrap_labels: 500, cool_down: 1ms}"))
    assert load_plan(folder).application_hash == world.plan.application_hash != hashed, "a budget changes no record that others are made of"
    world.restart()
    world.find(1, 10 * DAY)
    (asked,) = world.step()
    ended = answer(asked, "finished", "v7 promoted") | {"figures": {"cpu_s": 601.0}}
    world.append(world.plan.topics.retraining, ended)
    world.step()
    world.restart()
    world.find(2, 10 * DAY + 5)
    world.find(3, 11 * DAY + 1)
    skipped, requested = world.step()
    assert skipped["verdict"] == "skipped" and "trainings of the last day took 601.0 s of processor time, 600 s are allowed" in skipped["reason"]
    assert requested["verdict"] == "requested"


def test_the_answer_on_a_refit_is_read_from_the_lifecycle_log_and_outlives_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    world = World(folder)
    file = folder / "app.yaml"
    written = file.read_text()
    stages = "    stages: {canary: {for: 1d, labels: 100}, refits: canary, longest: 90d}\n    drift:"
    file.write_text(written.replace("    drift:", stages))
    assert file.read_text() != written
    world.plan = load_plan(folder)
    topics = world.plan.topics
    world.restart()
    example = json.loads((SCHEMAS / "examples" / "trial.json").read_text(encoding="utf-8"))[0]
    event = json.loads((SCHEMAS / "examples" / "deployment.json").read_text(encoding="utf-8"))[0]
    asked: list[dict[str, Any]] = []
    for day in range(40):
        losses = {"champion_loss": 0.5, "challenger_loss": 0.49 + 0.001 * (day % 2), "difference_mean": -0.01 + 0.001 * (day % 2)}
        scores = dict.fromkeys(("champion_score", "challenger_score", "champion_truth", "challenger_truth"), 0.25)
        of_block = {"block_start": day * DAY, "block_end": (day + 1) * DAY, "journal_time": (day + 2) * DAY, "journal_offset": day}
        who = {"model": "sent_back", "stage": "canary", "slice": "", "challenger_sequence": 5, "challenger_version": "v2", "champion_version": "v1"}
        counts = {"requests": 900, "labels": 800, "positives": 200, "challenger_failures": 0, "champion_failures": 0}
        world.append(topics.trials, {**example, **of_block, **who, **losses, **scores, **counts})
        said = {name: len(world.topics[name]) for name in (topics.drift, topics.trials, topics.found_incidents)}
        progress = Progress("drift", 0, covered_time=(day + 2) * DAY + 1, outputs=said)
        world.topics[topics.progress("drift")].append(progress.encode(world.codecs[topics.progress("drift")]))
        asked += world.step()
        if len(asked) == 1 and day == 10:
            refused = {**event, "event": "command_refused", "model": "sent_back", "decision_id": asked[0]["decision_id"]}
            world.append(topics.deployments, {**refused, "journal_time": DAY})
            world.step()
            world.restart()
    assert [one["action"] for one in asked] == ["promote_refit", "promote"]
    assert asked[0]["journal_offset"] == 0 and asked[1]["journal_offset"] > 10, "evidence is looked at once it is known that it is needed"


@pytest.mark.parametrize("restarts", [False, True])
def test_a_challenger_that_scores_too_slowly_goes_back_once_and_its_trial_says_no_more(tmp_path: Path, restarts: bool) -> None:
    world = World(tmp_path)
    topics = world.plan.topics
    world.cover(DAY)
    times = json.loads((SCHEMAS / "examples" / "scoring-time.json").read_text(encoding="utf-8"))[0]
    times |= {"model": "sent_back", "stage": "shadow", "challenger_version": "v2", "challenger_sequence": 5}
    asked: list[dict[str, Any]] = []
    for minute in range(40):
        taken = {"requests": 10, "calls": 10, "champion_ns": 400_000, "challenger_ns": 9_000_000, "window_start": minute * 60_000}
        world.append(topics.scoring_times, {**times, **taken, "window_end": (minute + 1) * 60_000})
        asked += world.step()
        if restarts:
            world.restart()
    (said,) = asked
    assert (said["action"], said["version"], said["journal_time"], said["trigger"]) == ("step_back", "v2", DAY, "trial")
    assert said["reason"].startswith("v2 in shadow: scoring time: expected at most 3 times the champion's 40 µs")
    example = json.loads((SCHEMAS / "examples" / "trial.json").read_text(encoding="utf-8"))[0]
    who = {"model": "sent_back", "stage": "shadow", "challenger_sequence": 5, "challenger_version": "v2", "slice": ""}
    world.append(topics.trials, {**example, **who, "journal_time": DAY + 5, "requests": 900, "challenger_failures": 900})
    world.topics[topics.progress("drift")].append(
        Progress("drift", 0, covered_time=DAY + 6, outputs={topics.trials: 1}).encode(world.codecs[topics.progress("drift")])
    )
    assert not world.step(), "one without scores would go back"
    world.append(topics.trials, {**example, **who, "challenger_sequence": 6, "journal_time": DAY + 7, "requests": 900, "challenger_failures": 900})
    world.topics[topics.progress("drift")].append(
        Progress("drift", 0, covered_time=DAY + 8, outputs={topics.trials: 2}).encode(world.codecs[topics.progress("drift")])
    )
    assert [one["action"] for one in world.step()] == ["step_back"], "another stage is judged again"


def test_a_roll_back_ends_in_the_lifecycle_log(tmp_path: Path) -> None:
    world = World(tmp_path)
    topics = world.plan.topics
    world.incident("open", [], DAY)
    world.order("b", "roll_back")
    (decision,) = world.step()
    example = json.loads((SCHEMAS / "examples" / "deployment.json").read_text(encoding="utf-8"))[0]
    event = {**example, "decision_id": decision["decision_id"], "event": "rolled_back", "reason": "v1 serves again"}
    world.append(topics.deployments, {**event, "journal_time": DAY})
    world.step()
    last = world.codecs[topics.incidents].decode(world.topics[topics.incidents][-1])
    assert (last["change"], last["decisions"][0]["outcome"], last["decisions"][0]["result"]) == ("acted", "rolled_back", "v1 serves again")

"""An operator's command from its signature to its answer, through the real control and retraining stages on the in-memory broker."""

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from tests.unit.services.drift.stream import shop
from tidemill.runs.instance import Instance, InstanceError
from tidemill.services.cli.__main__ import app
from tidemill.services.cli.command_answers import Answer, CommandAnswers, problem_of
from tidemill.services.cli.dispatch import run_to_command
from tidemill.services.control.task import ControlTask
from tidemill.services.control.task import task_inputs as control_inputs
from tidemill.services.retraining.processes.job_files import JobRequest, JobResult
from tidemill.services.retraining.processes.slots import Slots
from tidemill.services.retraining.processes.trainer import Trainer as TrainerPort
from tidemill.services.retraining.task import Places, RetrainingTask
from tidemill.services.retraining.task import task_inputs as retraining_inputs
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.commands.signing import signed_command
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.observability.settings import RunnerSettings, ServiceSettings
from tidemill.shared.runner.progress import Progress
from tidemill.shared.runner.task import Stage
from tidemill.shared.service.stage import chain_runner

KEY, MODEL, NOW_MS = b"the key of the control plane", "sent_back", 1_000_000


class Trainer(TrainerPort):
    """Every candidate passes."""

    def start(self, request: JobRequest) -> None:
        self.version = f"t{request.retraining['decision_id'][:4]}"

    def poll(self) -> JobResult | None:
        return JobResult(finished=True, reason="better", version=self.version, passed=True, artifact_sha256=f"sha-{self.version}", artifact_uri="uri")


class Registrar:
    def record(self, decision: str, record: Mapping[str, Any]) -> None:
        """Nobody looks at it."""

    def want(self, models: object) -> None:
        """Nobody looks at it."""

    def poll(self) -> None:
        """Nothing to do."""


class World:
    """A running application with the versions v1, v2, ... promoted one after the other."""

    def __init__(self, folder: Path, versions: int) -> None:
        self.plan: Plan = shop(folder)
        self.registry, self.broker = MemorySchemaRegistry(), MemoryBroker()
        self.broker.create_topics(catalogue_topics("shop", 1))
        topics = self.plan.topics
        self.codecs = {
            topic: message_codec(self.registry, topic, name)
            for topic, name in (
                (topics.deployments, "deployment"), (topics.commands, "command"), (topics.retraining, "retraining"),
                (topics.progress("drift"), "progress"), (topics.progress("archive"), "progress"),
            )
        }  # fmt: skip
        for number in range(versions):
            version = f"v{number + 1}"
            self.publish(topics.deployments, {
                "sequence": number, "parent": number - 1, "decision_id": version, "model": MODEL, "event": "promoted", "version": version,
                "journal_partition": 0, "journal_offset": 0, "journal_time": number, "artifact_sha256": f"sha-{version}", "artifact_uri": "",
                "share": 1.0, "threshold": 0.5, "figures": {}, "details": {}, "reason": "",
            })  # fmt: skip
        for stage in ("drift", "archive"):
            topic = topics.progress(stage)
            self.broker.sink().publish(topic, b"0", Progress(stage, 0, covered_time=NOW_MS).encode(self.codecs[topic]), 0, 0)
        limits = RunnerSettings(commit_interval_ms=1, idle_interval_ms=1, checkpoint_interval_ms=0, backoff_initial_ms=0, state_folder=folder / "s")
        settings = ServiceSettings(application=folder).model_copy(update={"runner": limits})
        slots, registrar, places = Slots([Trainer()]), Registrar(), Places("app", "lake", "artifacts")
        stages = [
            Stage("control", control_inputs(self.plan), lambda _: ControlTask(self.plan, self.registry, KEY)),
            Stage("retraining", retraining_inputs(self.plan), lambda _: RetrainingTask(self.plan, self.registry, slots, registrar, places)),
        ]
        self.runners = [chain_runner([stage], self.plan, settings, self.broker, self.registry) for stage in stages]

    def publish(self, topic: str, record: dict[str, Any]) -> None:
        self.broker.sink().publish(topic, b"m", self.codecs[topic].encode(record), 0, 0)

    def operator(self) -> CommandAnswers:
        return CommandAnswers(self.plan, self.broker, self.registry)

    def send(self, command: str, identity: str, reason: str = "because", **more: Any) -> dict[str, Any]:
        record = signed_command(KEY, MODEL, command, reason, identity, 5, **more)
        self.publish(self.plan.topics.commands, record)
        return record

    def settle(self) -> None:
        for _ in range(40):
            for runner in self.runners:
                runner.step()

    def ask(self, command: str, identity: str, **more: Any) -> Answer:
        answers = self.operator()
        assert answers.answer(identity) is None
        self.send(command, identity, **more)
        self.settle()
        answer = answers.answer(identity)
        assert answer is not None
        return answer

    @property
    def serving(self) -> str:
        champion = self.operator().lifecycle(MODEL).champion
        return champion.version if champion else ""

    def said(self, topic: str) -> list[dict[str, Any]]:
        parts = self.broker.reader().read(TopicPartition(topic, 0), 0, None)
        return [self.codecs[topic].decode(value or b"") for records in parts for value in records.values]


def test_a_roll_back_goes_to_the_champion_before_and_says_who_when_and_why(tmp_path: Path) -> None:
    world = World(tmp_path, 3)
    assert world.ask("roll_back", "a", reason="complaints", operator="ann") == Answer(True, "sent_back was rolled back to v2.")
    event = world.said(world.plan.topics.deployments)[-1]
    assert (event["operator"], event["command_id"], event["issued_at"], event["reason"]) == ("ann", "a", 5, "asked for: complaints")
    assert world.serving == "v2" and not world.said(world.plan.topics.retraining), "a roll-back is no training"


def test_a_roll_back_to_a_version_leaves_out_those_after_it(tmp_path: Path) -> None:
    world = World(tmp_path, 4)
    assert world.ask("roll_back", "a", version="v2").text == "sent_back was rolled back to v2."
    assert [old.version for old in world.operator().lifecycle(MODEL).retired] == ["v1"]
    refused = world.ask("roll_back", "b", version="v3")
    assert refused == Answer(False, "roll_back: expected a version that served before (v1), got v3")


def test_two_operators_at_once_roll_back_once(tmp_path: Path) -> None:
    world = World(tmp_path, 3)
    ann, bob = world.operator(), world.operator()
    world.send("roll_back", "a", serving=world.serving, operator="ann")
    world.send("roll_back", "b", serving=world.serving, operator="bob")
    world.settle()
    assert ann.answer("a") == Answer(True, "sent_back was rolled back to v2.")
    second = bob.answer("b")
    assert second is not None and not second.followed
    assert second.text == "roll_back: expected v3 to serve, as when the command was given, found v2: somebody else was faster; look again"
    assert world.serving == "v2"


@pytest.mark.parametrize(
    ("versions", "command", "version", "text"),
    [
        (3, "roll_back", "v9", "roll_back: expected a version that served before (v1, v2), got v9"),
        (3, "roll_back", "v3", "roll_back: v3 serves already"),
        (1, "roll_back", "", "roll_back: there is no earlier champion to roll back to"),
        (0, "roll_back", "", "roll_back: there is no earlier champion to roll back to"),
        (0, "pin", "", "pin: expected a version that serves, found none: the model has not been promoted yet"),
        (2, "pin", "v1", "pin: expected the version that serves (v2), got v1; roll back to it first"),
        (2, "unpin", "", "unpin: expected a version that is pinned, found none (v2 serves)"),
    ],
)
def test_what_cannot_be_done_is_said_before_it_is_sent_and_by_the_worker(
    tmp_path: Path, versions: int, command: str, version: str, text: str
) -> None:
    world = World(tmp_path, versions)
    before = world.serving
    assert problem_of(command, version, world.operator().lifecycle(MODEL)) == text
    assert world.ask(command, "a", version=version) == Answer(False, text)
    assert world.serving == before


def test_a_pinned_version_serves_until_it_is_unpinned(tmp_path: Path) -> None:
    world = World(tmp_path, 2)
    assert world.ask("pin", "a", reason="the holidays", operator="ann").text == "sent_back is pinned to v2."
    answer = world.ask("retrain", "b")
    assert answer.followed and "shop-retraining says what becomes of it" in answer.text
    ended = world.said(world.plan.topics.retraining)[-1]
    assert ended["event"] == "finished" and "passed, not promoted while v2 pinned by ann (the holidays)" in ended["reason"]
    assert world.serving == "v2"
    assert world.ask("roll_back", "c").text == "roll_back: expected a model that is not pinned, found v2 pinned by ann (the holidays); unpin it first"
    assert world.ask("pin", "d").text.startswith("pin: expected a model that is not pinned")
    assert world.ask("unpin", "e").text == "sent_back is not pinned any more to v2."
    world.ask("retrain", "f")
    assert world.serving.startswith("t")


def test_a_command_that_is_sent_again_is_followed_once(tmp_path: Path) -> None:
    world = World(tmp_path, 3)
    assert world.ask("roll_back", "a").followed
    assert world.ask("roll_back", "a") == Answer(False, "roll_back: command a was followed before")
    assert world.serving == "v2"


def test_a_command_under_another_key_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path, 3)
    answers = world.operator()
    world.publish(world.plan.topics.commands, signed_command(b"another key", MODEL, "roll_back", "r", "a"))
    world.settle()
    assert answers.answer("a") is None, "the id belongs to whoever has the key"
    refused = answers.answer(f"{world.plan.topics.commands}:0:0")
    assert refused is not None and not refused.followed and "its signature is missing or wrong" in refused.text


def run_of(folder: Path, application: Path, *, alive: bool) -> Path:
    folder.mkdir(parents=True)
    pid = os.getpid() if alive else 0
    Instance(str(application), "live", {}, "", "", pid, psutil.Process().create_time()).write(folder)
    return folder


def test_the_run_that_goes_on_is_found_and_none_or_two_are_said(tmp_path: Path) -> None:
    runs, application = tmp_path / "up", tmp_path / "app"
    with pytest.raises(InstanceError, match=r"expected one run that goes on .* found none"):
        run_to_command(None, None, runs)
    run_of(runs / "ended", application, alive=False)
    first = run_of(runs / "first", application, alive=True)
    assert run_to_command(None, None, runs) == (application, first)
    second = run_of(runs / "second", application, alive=True)
    with pytest.raises(InstanceError, match=r"found more than one: .*first, .*second"):
        run_to_command(None, None, runs)
    assert run_to_command(None, second, runs) == (application, second)


def test_an_unknown_model_is_refused_with_those_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    result = CliRunner().invoke(app, ["rollback", "nothing", "--reason", "x", "--application", str(tmp_path)])
    assert result.exit_code == 2 and "expected one of sent_back, got nothing" in result.output


def test_a_run_that_has_ended_cannot_be_commanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop(tmp_path)
    run = run_of(tmp_path / "run", tmp_path, alive=False)
    instance = json.loads((run / "instance.json").read_text())
    (run / "instance.json").write_text(json.dumps({**instance, "servers": "servers"}))
    for name in [name for name in os.environ if name.startswith("TIDEMILL_")]:
        monkeypatch.delenv(name)
    result = CliRunner().invoke(app, ["pin", MODEL, "--reason", "x", "--application", str(tmp_path), "--run", str(run)])
    assert result.exit_code == 2 and "found one that has ended" in " ".join(result.output.split())


def test_the_commands_themselves_say_what_became_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole command, with the in-memory adapters in place of Kafka and the registry; the stages run beside it."""
    world = World(tmp_path, 3)
    monkeypatch.setattr("tidemill.runs.kafka_clients.connect", lambda kafka: world.broker)
    monkeypatch.setattr("tidemill.shared.avro.registry.ConfluentSchemaRegistry", lambda url: world.registry)
    for name, value in {
        "KAFKA__BOOTSTRAP_SERVERS": "k:9092",
        "REGISTRY__URL": "http://r",
        "REDIS__URL": "redis://r",
        "COMMANDS__KEY": KEY.decode(),
    }.items():
        monkeypatch.setenv(f"TIDEMILL_{name}", value)
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            for runner in world.runners:
                runner.step()

    stages = threading.Thread(target=run)
    stages.start()

    def tidemill(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, [arguments[0], MODEL, *arguments[1:], "--application", str(tmp_path), "--operator", "eve"])
        return result.exit_code, " ".join(result.output.split())

    try:
        assert tidemill("rollback", "--reason", "complaints") == (0, "sent_back was rolled back to v2.")
        assert tidemill("pin", "--reason", "the holidays") == (0, "sent_back is pinned to v2.")
        refused = "pin: expected a model that is not pinned, found v2 pinned by eve (the holidays); unpin it first"
        assert tidemill("pin", "--reason", "again") == (2, refused)
        assert tidemill("unpin", "--reason", "over") == (0, "sent_back is not pinned any more to v2.")
        assert tidemill("rollback", "--to", "v9", "--reason", "x") == (2, "roll_back: expected a version that served before (v1), got v9")
        assert tidemill("rollback", "--reason", " ")[0] == 2
        begun = CliRunner().invoke(app, ["ab", f"{MODEL}@v1", "--share", "0.2", "--reason", "worth it?", "--application", str(tmp_path)])
        assert (begun.exit_code, begun.output.strip()) == (0, "sent_back is compared with v1, which answers 20% of the requests.")
        assert tidemill("step-back", "--reason", "seen enough") == (0, "sent_back is tried no more with v1.")
        code, text = tidemill("retrain", "--reason", "a new country")
        assert code == 0 and "shop-retraining says what becomes of it" in text
    finally:
        stop.set()
        stages.join()
    event = next(event for event in world.said(world.plan.topics.deployments) if event["event"] == "rolled_back")
    assert (event["operator"], event["reason"]) == ("eve", "asked for: complaints") and event["issued_at"] > 1_600_000_000_000

"""One attack on a whole running system: quiet traffic, the attack in the same traffic, and a verdict."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from campaigns.hostile.application import STREAMS, write_application
from campaigns.hostile.foreign import foreign_records
from campaigns.hostile.messages import Grammar
from campaigns.hostile.oracle import Verdict, judge, raw_records
from campaigns.hostile.traffic import Answers, Sender, latencies_ms
from tidemill.audit.history import prediction_schema, read_history
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.replay.feed import subject
from tidemill.runs.pipeline import pipeline_environment, start_services
from tidemill.runs.settings import read_settings
from tidemill.runs.supervisor import Supervisor
from tidemill.runs.topics import create_topics
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.dead_letters.reading import DeadLetterOffice
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.lake.names import journal_table
from tidemill.shared.lake.tables import Lake

_START_S, _DRAIN_S = 120.0, 180.0
_SETTLED_S, _ANSWERED_S, _SAMPLE_S = 2.0, 40.0, 10.0
# Before memory is measured: so many messages that every kind has come, and what it takes is loaded and compiled.
_WARM = 600


@dataclass(frozen=True, slots=True)
class Attack:
    """How much is sent.

    Attributes
    ----------
    hostile
        Hostile messages, evenly over `attack_s`.
    good_per_s
        Good payments, in both stretches.
    memory
        Memory is compared: the archive has then written to the lake once (after 30 s) before it is measured, and has its libraries loaded.
    """

    seed: int
    hostile: int
    good_per_s: float = 150.0
    quiet_s: float = 20.0
    attack_s: float = 60.0
    memory: bool = True


@dataclass(slots=True)
class AttackResult:
    """What came of it: latencies in milliseconds, resident memory of all services in megabytes.

    Attributes
    ----------
    memory_by_service_mb
        Before the quiet stretch, every ten seconds in the attack, and after it.
    """

    attack: dict[str, Any]
    verdict: dict[str, Any]
    restarts: int = 0
    p50_quiet_ms: float = 0.0
    p99_quiet_ms: float = 0.0
    p50_attack_ms: float = 0.0
    p99_attack_ms: float = 0.0
    memory_before_mb: float = 0.0
    memory_after_mb: float = 0.0
    memory_by_service_mb: dict[str, list[float]] = field(default_factory=dict)
    disconnects: dict[str, int] = field(default_factory=dict)
    refused_by_broker: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    hostile_by_kind: dict[str, int] = field(default_factory=dict)
    http_answers: dict[int, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def memory_growth_mb(self) -> float:
        """How much more the services hold after the attack."""
        return self.memory_after_mb - self.memory_before_mb


def attack(infrastructure: Infrastructure, folder: Path, app: str, plan: Attack) -> AttackResult:
    """Run the application on the given servers and attack it.

    Parameters
    ----------
    folder
        New; logs, lake and models of the run lie there afterwards.
    app
        A name that the servers have not seen.
    """
    began = time.monotonic()
    application = write_application(folder / "application", app)
    loaded = load_plan(application)
    broker, registry = KafkaBroker(infrastructure.bootstrap_servers), ConfluentSchemaRegistry(infrastructure.registry_url)
    create_topics(loaded, broker)
    codecs = {name: RecordCodec(registry, subject(loaded.streams[name]), loaded.streams[name].user_schema) for name in STREAMS}

    def encode(stream: str, record: Mapping[str, Any]) -> bytes:
        return codecs[stream].encode(dict(record))

    kafka = {"bootstrap.servers": infrastructure.bootstrap_servers}
    grammar = Grammar(plan.seed, encode, foreign_records(registry, f"{app}-payments"))
    environment = pipeline_environment(application, infrastructure, folder, "live", read_settings())
    lake, supervisor = Lake(environment["TIDEMILL_LAKE__URI"], app), start_services(folder, environment)
    answers = Answers(kafka, loaded, ColumnDecoder(registry, prediction_schema()))
    answers.start()
    try:
        gateway = _gateway(supervisor, folder)
        sender = Sender(loaded, kafka, gateway, encode, grammar, plan.seed)
        sender.introduce()
        sender.stretch("first", 2.0, 20.0, meanwhile=supervisor.check)
        _until(lambda: all(name in answers.first for name in sender.sent.good), supervisor, folder, "the first answers")
        sender.stretch("warm", max(2.0, plan.quiet_s / 4), plan.good_per_s, max(_WARM, plan.hostile // 50), supervisor.check)
        _settle(sender, answers, supervisor)
        if plan.memory:
            sender.operate()
            _until(lambda: lake.exists(journal_table("payments")), supervisor, folder, "the archive's first write")
        before = _memory_mb(supervisor)
        sender.stretch("quiet", plan.quiet_s, plan.good_per_s, meanwhile=supervisor.check)
        samples = MemorySamples(supervisor, before)
        sender.stretch("attack", plan.attack_s, plan.good_per_s, plan.hostile, samples.take)
        sender.flush()
        _settle(sender, answers, supervisor)
        after = _memory_mb(supervisor)
        # What follows the good messages in the raw topics is accounted for a little later.
        verdict = Verdict()
        end = time.monotonic() + _DRAIN_S
        while True:
            supervisor.check()
            history = read_history(loaded, broker, registry)
            letters = list(DeadLetterOffice(loaded, broker, registry).letters())
            own = sum(letter.record["stage"] == "ingestion" for letter in letters)
            raw = raw_records(loaded, broker)
            if raw == history.accepted + own + history.duplicates or time.monotonic() > end:
                break
            time.sleep(0.5)
        verdict = judge(loaded, registry, history, letters, sender.sent.good, answers.count, raw)
    finally:
        answers.finished.set()
        answers.join()
        restarts = sum(supervisor.restarts().values())
        supervisor.stop()
    result = AttackResult(asdict(plan), asdict(verdict), restarts)
    for name in ("quiet", "attack"):
        latencies = latencies_ms(sender.sent, answers, name)
        p50, p99 = (round(float(value), 1) for value in np.percentile(latencies, [50, 99])) if len(latencies) else (-1.0, -1.0)
        setattr(result, f"p50_{name}_ms", p50)
        setattr(result, f"p99_{name}_ms", p99)
    result.memory_before_mb, result.memory_after_mb = round(sum(before.values()), 1), round(sum(after.values()), 1)
    result.memory_by_service_mb = samples.by_service(after)
    result.disconnects, result.refused_by_broker = dict(sender.sent.disconnects), dict(sender.sent.refused)
    result.hostile_by_kind, result.http_answers = dict(sender.sent.hostile), dict(sender.sent.answers)
    result.seconds = round(time.monotonic() - began, 1)
    result.problems = [*verdict.problems, *sender.sent.failures]
    if restarts:
        result.problems.append(f"{restarts} services ended and were started again; {folder / 'logs'}")
    if sender.sent.server_errors:
        result.problems.append(f"{len(sender.sent.server_errors)} server errors of the gateway, first: {sender.sent.server_errors[0]}")
    return result


class MemorySamples:
    """Resident memory over an attack, by service."""

    def __init__(self, supervisor: Supervisor, first: Mapping[str, float]) -> None:
        self._supervisor = supervisor
        self._samples = [first]
        self._due = time.monotonic() + _SAMPLE_S

    def take(self) -> None:
        """Check the services; take a sample when it is time."""
        self._supervisor.check()
        if time.monotonic() >= self._due:
            self._due += _SAMPLE_S
            self._samples.append(_memory_mb(self._supervisor))

    def by_service(self, last: Mapping[str, float]) -> dict[str, list[float]]:
        """Return the samples of each service, with a last one."""
        return {name: [round(sample.get(name, 0.0), 1) for sample in (*self._samples, last)] for name in last}


def _gateway(supervisor: Supervisor, folder: Path) -> str:
    """Wait for the gateway and return its address."""
    problems: list[str] = []

    def look() -> bool:
        for line in supervisor.log_tail("gateway").splitlines():
            if '"message": "listening"' in line:
                problems.append(f"http://127.0.0.1:{json.loads(line)['port']}")
        return bool(problems)

    _until(look, supervisor, folder, "the gateway")
    return problems[0]


def _settle(sender: Sender, answers: Answers, supervisor: Supervisor) -> None:
    """Wait for the answers to every good payment, and for what else they cause; what is missing after a while is the oracle's to find."""
    end = time.monotonic() + _ANSWERED_S
    while not all(name in answers.first for name in sender.sent.good) and time.monotonic() < end:
        supervisor.check()
        time.sleep(0.05)
    end = time.monotonic() + _SETTLED_S
    while time.monotonic() < end:
        supervisor.check()
        time.sleep(0.1)


def _until(condition: Callable[[], bool], supervisor: Supervisor, folder: Path, what: str) -> None:
    end = time.monotonic() + _START_S
    while not condition():
        supervisor.check()
        if time.monotonic() > end:
            raise TimeoutError(f"not within {_START_S:.0f} s: {what}; {folder / 'logs'}")
        time.sleep(0.05)


def _memory_mb(supervisor: Supervisor) -> dict[str, float]:
    """Resident memory of the services, each with its children."""
    megabytes = {}
    for name, pid in supervisor.pids().items():
        try:
            process = psutil.Process(pid)
            megabytes[name] = sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 2**20
        except psutil.NoSuchProcess:
            continue
    return megabytes

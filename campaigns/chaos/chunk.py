"""One run of the system under faults, from its first start to the verdict."""

import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from campaigns.chaos.endings import endings, reasons
from campaigns.chaos.engine import Engine
from campaigns.chaos.fault import Kind
from campaigns.chaos.oracle import Oracle
from campaigns.chaos.traffic import Traffic
from campaigns.chaos.world import World
from campaigns.hostile.application import STREAMS, write_application
from campaigns.hostile.foreign import foreign_records
from campaigns.hostile.messages import Grammar
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.replay.feed import subject
from tidemill.runs.command_channel import KEY_FILE
from tidemill.runs.pipeline import pipeline_environment
from tidemill.runs.settings import read_settings
from tidemill.runs.supervisor import ServiceFailed
from tidemill.runs.topics import create_topics
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.observability.secret_file import secret_file

PARTITIONS, HISTORY = 4, 1_000
# A training always searches, so that candidates have other recipes than what serves: those begin in shadow, refits as canaries.
# Blocks are short, as all requests that a model has answered are minutes old.
LEARNING = """\
    training:
      {families: [logistic_regression, lightgbm], trials: TRIALS, windows_days: [0, 2, 7], holdout_days: 4, min_rows: 50, search_every: 1s}
    retraining: {bootstrap_labels: 500, cool_down: 1h, budget_per_30d: 1000}
    gate: {min_rows: 50, alpha: 0.2, margin: 0.1, block: 1s}
    stages:
      shadow: {for: 5s, labels: 5}
      canary: {share: 0.3, for: 5s, labels: 5}
      ab: {share: 0.5, for: 1m}
      refits: canary"""
_DRAIN_S = 150.0
_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class ChunkPlan:
    """How much happens in one run of the system.

    Attributes
    ----------
    faults
        Faults that strike.
    every
        So many faults after which everything is drained and judged; also at the end.
    at_once
        Faults under way at most.
    trials
        Of each search. Two seldom find another recipe than the one that serves, so that few candidates are in shadow.
    """

    seed: int
    faults: int
    every: int = 50
    rate_per_s: float = 40.0
    mixed: bool = True
    long: bool = False
    at_once: int = 3
    trials: int = 2


@dataclass(slots=True)
class ChunkResult:
    """What came of it; `endings` counts processes that ended by themselves, by stage and reason."""

    seed: int
    faults: list[dict[str, Any]] = field(default_factory=list)
    missed: int = 0
    checkpoints: list[dict[str, int]] = field(default_factory=list)
    interventions: int = 0
    restarts: int = 0
    hostile: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    endings: dict[str, int] = field(default_factory=dict)


def run_chunk(
    servers: Infrastructure, folder: Path, app: str, plan: ChunkPlan, kinds: Sequence[Kind], say: Callable[[str], None] = lambda _: None
) -> ChunkResult:
    """Run the application on the given servers, strike it, judge it.

    Parameters
    ----------
    folder
        New; logs, lake and models of the run lie there afterwards.
    app
        A name that the servers have not seen.
    """
    began, result = time.monotonic(), ChunkResult(plan.seed)
    application = write_application(folder / "application", app, PARTITIONS, LEARNING.replace("TRIALS", str(plan.trials)))
    loaded, registry = load_plan(application), ConfluentSchemaRegistry(servers.registry_url)
    broker = KafkaBroker(servers.bootstrap_servers)
    create_topics(loaded, broker)
    codecs = {name: RecordCodec(registry, subject(loaded.streams[name]), loaded.streams[name].user_schema) for name in STREAMS}

    def encode(stream: str, record: Mapping[str, Any]) -> bytes:
        return codecs[stream].encode(dict(record))

    environment = pipeline_environment(application, servers, folder, "live", read_settings())
    secret_file(folder / KEY_FILE)
    rng = random.Random(f"chaos {plan.seed}")
    grammar = Grammar(plan.seed, encode, foreign_records(registry, f"{app}-payments"))
    oracle = Oracle(loaded, broker, registry, servers.registry_url, str(folder / "lake"), str(folder / "artifacts"), servers.redis_url)
    with Traffic(loaded, servers.bootstrap_servers, registry, encode, grammar, plan.seed, plan.rate_per_s) as traffic:
        traffic.remember(HISTORY, time.time_ns() // 1_000_000)
        world = World(loaded, servers, registry, environment, folder, traffic, rng, plan.mixed, plan.long)
        engine = Engine(world, kinds, say, plan.at_once)
        try:
            world.start()
            say(f"instances {world.topologies}; {HISTORY} payments of the days before")
            engine.until(lambda: not traffic.open_requests, "the history is answered", _DRAIN_S)
            while engine.struck < plan.faults and not engine.problems:
                traffic.flow()
                engine.run(min(plan.every, plan.faults - engine.struck))
                say(f"{engine.struck} faults struck; everything comes to rest")
                _checkpoint(world, engine, oracle, result, say)
        except ServiceFailed as problem:
            result.interventions += 1
            result.problems.append(f"a supervisor gave up, somebody would have to help: {problem}")
        finally:
            result.restarts = world.restarts + sum(machine.restarts() for machine in world.everything)
            world.stop()
    result.faults = [asdict(fault) for fault in engine.faults if not fault.missed]
    result.missed = len(engine.faults) - len(result.faults)
    result.hostile = traffic.hostile
    result.problems = [*engine.problems, *result.problems]
    result.endings = reasons(endings(folder / "logs"))
    result.seconds = round(time.monotonic() - began, 1)
    return result


def _now_and_then(condition: Callable[[], bool]) -> Callable[[], bool]:
    """Have a condition that reads whole topics looked at once a second: the processor is needed by what it waits for."""
    next_s = 0.0

    def looked() -> bool:
        nonlocal next_s
        if time.monotonic() < next_s:
            return False
        holds = condition()
        next_s = time.monotonic() + _LOOK_S
        return holds

    return looked


def _checkpoint(world: World, engine: Engine, oracle: Oracle, result: ChunkResult, say: Callable[[str], None]) -> None:
    """Let everything come to rest, and hold it against what was sent."""
    traffic = world.traffic
    traffic.rest()
    written_out = False

    def is_archived() -> bool:
        """An archive that ends writes out what it holds, which it else does every half minute."""
        nonlocal written_out
        if not written_out:
            world.behind.send("archive", signal.SIGTERM)
            written_out = True
        return oracle.is_archived()

    for condition, what in (
        (lambda: not traffic.open_requests, "every payment is answered"),
        (_now_and_then(oracle.is_accounted), "every raw record is accounted for"),
        (_now_and_then(lambda: oracle.is_labelled(traffic.labelled)), "every label has its outcome"),
        (_now_and_then(is_archived), "everything is in the lake"),
        (_now_and_then(oracle.is_online), "everything is in the online store"),
    ):
        engine.until(condition, what, _DRAIN_S)
    findings = oracle.look(traffic.good, traffic.labelled)
    result.checkpoints.append(findings.counts)
    result.problems += findings.problems
    for problem in findings.problems:
        say(f"PROBLEM {problem}")
    say(f"  compared: {findings.counts}")

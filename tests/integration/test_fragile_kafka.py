"""Records that kill the process, on real Kafka; and that every service can be made in the child that dies in its place."""

import subprocess
import time
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from tests import forked
from tests.integration.flights_services import application
from tests.integration.fragile_process import BOOM, KILLED, SEGFAULT, fragile_ingestion
from tests.patience import patient
from tests.property.runner_tasks import codec, expected, output, records_of, topics
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.services.ingestion.settings import IngestionSettings
from tidemill.shared.application.planning import load_plan
from tidemill.shared.fork_server.process import StartedProcess
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.records import Emission, TopicPartition
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.runner.forked_walk import ForkedWalk
from tidemill.shared.runner.lent_broker import Lender
from tidemill.shared.runner.offer import MakeStage
from tidemill.shared.runner.rehearsal import Rehearsal
from tidemill.shared.runner.stage_child import StageChild
from tidemill.shared.service.service_process import built_in_child

__all__ = ["application"]
DEADLINE_S = patient(200.0)


@pytest.mark.lasts(70)
def test_records_that_raise_fault_and_are_killed_in_two_partitions_are_set_aside(
    infrastructure: Infrastructure, application_name: str, tmp_path: Path
) -> None:
    """Processes that end are started again, as a supervisor does: an exception and a native fault cost one of them, a kill two."""
    broker = KafkaBroker(infrastructure.bootstrap_servers)
    broker.create_topics(topics(application_name, 2))
    count, poison = 400, ({7: BOOM, 300: SEGFAULT}, {0: KILLED, 399: BOOM})
    sink = broker.sink()
    for partition, places in enumerate(poison):
        values = [places.get(place, b"x") for place in range(count)]
        sink.publish_run(Emission(f"{application_name}-input", partition, [b"k"] * count, values, np.arange(count, dtype=np.int64)))
    sink.close()
    given = (infrastructure.bootstrap_servers, application_name, "2", str(tmp_path / "state"))
    ends: list[int] = []

    def start() -> StartedProcess:
        return forked.start("tests.integration.fragile_process", *given, log=tmp_path / "log")

    reader, process, deadline = broker.reader(), start(), time.monotonic() + DEADLINE_S
    try:
        while not all(reader.watermarks(TopicPartition(f"{application_name}-rejected", p))[1] for p in (0, 1)) or not all(
            len(output(broker, f"{application_name}-output", p)) == count - 2 for p in (0, 1)
        ):
            assert time.monotonic() < deadline, (ends, (tmp_path / "log").read_text()[-3_000:])
            try:
                ends.append(process.wait(0.2))
                process = start()
            except subprocess.TimeoutExpired:
                continue
    finally:
        process.kill()
        process.wait()
        reader.close()
    for partition, places in enumerate(poison):
        assert output(broker, f"{application_name}-output", partition) == expected(["k"] * count, without=list(places))
        letters = [codec("rejected").decode(value or b"") for value in output(broker, f"{application_name}-rejected", partition)]
        assert sorted(letter["source_offset"] for letter in letters) == sorted(places)
    # An exception ends a process only if none before it has died of anything for five minutes.
    assert (ends.count(-11), ends.count(-9)) == (1, 2) and len(ends) <= 4, ends


@pytest.mark.lasts(25)
@pytest.mark.timeout(200)
def test_every_service_that_is_tried_in_children_can_be_made_in_one_and_writes_nothing_there(
    application: Path, application_name: str, infrastructure: Infrastructure, tmp_path: Path
) -> None:
    plan = load_plan(application)
    broker = KafkaBroker(infrastructure.bootstrap_servers)
    broker.create_topics([*catalogue_topics(application_name, 1), *(TopicSpec(topic) for topic in plan.topics.raw)])
    settings = IngestionSettings.model_validate(
        {
            "application": application,
            "kafka": {"bootstrap_servers": infrastructure.bootstrap_servers},
            "registry": {"url": infrastructure.registry_url},
            "redis": {"url": infrastructure.redis_url},
            "commands": {"key_file": tmp_path / "key"},
            "artifacts": {"uri": str(tmp_path / "artifacts")},
            "runner": {"state_folder": tmp_path / "state"},
        }
    )
    reader = broker.reader()
    names = [spec.name for spec in catalogue_topics(application_name, 1)]
    before = {name: reader.watermarks(TopicPartition(name, 0)) for name in names}
    for stage, links in (("fused", 3), ("outcomes", 1), ("drift", 1), ("control", 1)):
        build = import_module(f"tidemill.services.{stage}.service").build
        group = broker.source(f"{application_name}-{'ingestion' if stage == 'fused' else stage}", "child")
        child = StageChild(partial(built_in_child, build, settings), tmp_path / "child", 60.0)
        for link in range(links):
            ending = child.go(Rehearsal(link, 0, time.time_ns() // 1_000_000, 100), Lender(broker, reader, group), lambda: None)
            assert ending.survived and ending.at == 0, (stage, link, ending)
        if stage == "fused":
            assert _culprits_of(
                plan.topics.raw[0], partial(fragile_ingestion, build, settings), tmp_path / "child", Lender(broker, reader, group)
            ) == {
                3: "ZeroDivisionError: boom",
                13: "ZeroDivisionError: boom",
                14: "ZeroDivisionError: boom",
                33: "the process was ended by signal 11 (SIGSEGV)",
            }
        group.close()
    assert {name: reader.watermarks(TopicPartition(name, 0)) for name in names} == before
    assert not (tmp_path / "child").exists() and not (tmp_path / "state").exists()
    reader.close()


def _culprits_of(topic: str, make: MakeStage, folder: Path, lender: Lender) -> dict[int, str]:
    """What a walk finds in forty records of a stage as it is: polars has threads in it, so that no process of it is forked."""
    values = [{3: BOOM, 13: BOOM, 14: BOOM, 33: SEGFAULT}.get(place, b"no event") for place in range(40)]
    records = records_of(topic, 0, [(place, b"k", value) for place, value in enumerate(values)])
    rehearsal = Rehearsal(0, 0, time.time_ns() // 1_000_000, 100, pieces=[[records]])
    with StageChild(make, folder, 60.0).scouts(rehearsal, lender, lambda: None) as scouts:
        assert scouts.begin().survived
        scouts.stand()
        return dict(ForkedWalk(scouts, len(records)).find().culprits)

"""Dead letters on a real broker: two commands replay the same ones at once, and every original is published again once."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.integration.meters import write_application
from tests.patience import patient
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.runs.topics import create_topics
from tidemill.runs.watch import record_codec
from tidemill.services.cli.__main__ import app
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.dead_letters.letters import Selection
from tidemill.shared.dead_letters.reading import DeadLetterOffice
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.records import TopicPartition

pytestmark = [pytest.mark.timeout(120), pytest.mark.lasts(15)]
ROOT = Path(__file__).parents[2]
COUNT = 1_700


def test_two_replays_at_once_and_a_third_publish_every_original_once(infrastructure: Infrastructure, application_name: str, tmp_path: Path) -> None:
    application = write_application(tmp_path / "application", application_name)
    plan = load_plan(application)
    broker, registry = KafkaBroker(infrastructure.bootstrap_servers), ConfluentSchemaRegistry(infrastructure.registry_url)
    create_topics(plan, broker)
    codec, sink = record_codec(registry, plan.topics.rejected, "Rejected"), broker.sink()
    for i in range(COUNT):
        letter = {
            "stage": "ingestion", "reason": "expectation", "detail": "expected no negative use", "source_topic": plan.streams["readings"].topic,
            "source_partition": i % 2, "source_offset": i, "source_timestamp": 1_358_424_000_000 + i, "key": b"m%d" % i, "value": b'{"n": %d}' % i,
            "journal_time": 1_358_424_000_000,
        }  # fmt: skip
        sink.publish(plan.topics.rejected, b"k", codec.encode(letter), partition=i % 2)
    sink.flush()
    environment = {**os.environ, **infrastructure.environment, "COLUMNS": "200"}

    def racing() -> "subprocess.Popen[str]":
        arguments = [sys.executable, "-m", "tidemill", "dead-letters", "replay", str(application), "--reason", "expectation"]
        return subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def command(*words: str, exits: int = 0) -> str:
        result = CliRunner().invoke(app, ["dead-letters", words[0], str(application), *words[1:]], env=environment)
        assert result.exit_code == exits, result.output
        return result.output

    racers = [racing() for _ in range(2)]
    told = [racer.communicate(timeout=patient(60))[0] for racer in racers]
    told.append(command("replay", "--all"))
    assert f"{COUNT:,} had been before" in told[-1] or "replayed" in told[-1], told
    reader = broker.reader()
    published: Counter[int] = Counter()
    for partition in (0, 1):
        for records in reader.read(TopicPartition(plan.streams["readings"].topic, partition), 0):
            published.update(json.loads(value)["n"] for value in records.values if value)
            assert all(json.loads(value)["n"] % 2 == partition for value in records.values if value)
    reader.close()
    assert published == Counter(range(COUNT)), told
    office = DeadLetterOffice(plan, broker, registry)
    assert not list(office.letters(Selection(replayed=False))) and len(list(office.letters(Selection(replayed=True)))) == COUNT
    file = tmp_path / "letters.jsonl"
    command("export", str(file), "--stream", "readings", "--until", "2013-01-17T12:00:00.010Z")
    exported = [json.loads(line) for line in file.read_text().splitlines()]
    assert sorted(json.loads(one["value"])["n"] for one in exported) == list(range(10)) and exported[0]["replayed_at"]
    printed = command("list", "--limit", "3")
    assert f"{COUNT:,} dead letters" in printed and f"{COUNT:,} of readings: expectation" in printed
    why = command("list", "--reason", "expectations", exits=2)
    assert "no dead letter has the reason expectations (did you mean expectation?)" in why, why
    assert json.loads(command("show", exported[0]["place"]))["reason"] == "expectation"
    assert "expected dead letters at 7:1, found none" in command("replay", exported[0]["place"], "7:1", exits=2)
    assert "expected a dead letter at 0:999999999, found none" in command("show", "0:999999999", exits=2)
    named = tmp_path / ("long" * 62 + ".jsonl")
    command("export", str(named), "--reason", "expectation", "--since", "2013-01-17T12:00:01.695Z")
    assert len(named.read_text().splitlines()) == 5 and not list(tmp_path.glob("*.part")) + list(tmp_path.glob(".*.part"))

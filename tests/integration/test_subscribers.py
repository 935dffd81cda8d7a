"""The programs of `examples/subscribers` beside one real run: as the README starts them, killed on the way, held to the data set."""

import hashlib
import hmac
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from rich.console import Console

from tests.patience import patient, until
from tidemill.deploy.embedded.component import free_port
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.replay.replay_run import ReplayOptions, replay_run
from tidemill.runs.pipeline import TOPOLOGY
from tidemill.runs.running import running_application
from tidemill.runs.watch import record_codec
from tidemill.services.cli.dataset import DataSetOptions, load_data_set
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.records import Emission, TopicPartition

ROOT = Path(__file__).parents[2]
README = (ROOT / "examples" / "subscribers" / "README.md").read_text()
KEY = "at least 16 characters"
DATA = DataSetOptions(count=2_000, interval_ms=900_000.0)
APP_CHANGES = {
    "bootstrap_labels: 10000, cool_down: 5d, schedule: 14d, budget_per_30d: 6": "bootstrap_labels: 900",
    "trials: 4, windows_days: [0, 14], holdout_days: 3, min_rows: 1500": "families: [logistic_regression], trials: 1, holdout_days: 3, min_rows: 100",
}
ALERTS = """
alerts:
  group_wait: 0s
  channels: {mine: {kind: webhook, in_replay: true}}
  rules:
    asked: {on: decisions, when: "verdict = 'requested'", severity: info, once: true, summary: "{model} is to be trained"}
"""


class Program:
    """A subscriber's process, and what it has printed."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], output: Path) -> None:
        self.output = output
        self._errors = output.with_suffix(".err")
        with output.open("wb") as out, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=errors)

    def lines(self) -> list[str]:
        """Whole lines only: a process that is killed may have printed half of one."""
        return self.output.read_text().split("\n")[:-1]

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines()]

    def errors(self) -> str:
        return self._errors.read_text()

    def until(self, condition: Callable[[], bool], what: str) -> None:
        def running() -> None:
            assert self.process.poll() is None, said()

        def said() -> str:
            return f"{what}; {self.process.poll()}\n{self.output.read_text()[-1000:]}\n{self.errors()[-3000:]}"

        until(condition, said, check=running)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(patient(30))


@contextmanager
def starting(app: str, infrastructure: Infrastructure, folder: Path) -> Iterator[Callable[..., Program]]:
    """Give a function that starts the program of the README's command line with other arguments; whatever still runs is killed at the end."""
    commands = {Path(line.split(".py")[0]).name: line for line in re.findall(r"^.*examples/subscribers/\w+\.py.*$", README, re.MULTILINE)}
    assert set(commands) == {"predictions", "events", "outcomes", "webhook"}
    environment = {**os.environ, **infrastructure.environment, "FAUST_DATADIR": str(folder / "faust"), "WEBHOOK_KEY": KEY}
    started: list[Program] = []

    def start(name: str, **options: object) -> Program:
        words = commands[name].split("python ", 1)[1].split()
        words = [{"payments": app, "my-outcomes": str(folder / "my-outcomes")}.get(word, word) for word in words]
        for option, value in options.items():
            words = words[: words.index(f"--{option}")] if f"--{option}" in words else words
            words += [f"--{option}", str(value)]
        started.append(Program([sys.executable, *words], environment, folder / f"{name}-{len(started)}.out"))
        return started[-1]

    try:
        yield start
    finally:
        for program in started:
            if program.process.poll() is None:
                program.process.kill()
            program.process.wait()


def post(url: str, body: bytes, timestamp: int, message_id: str, key: str = KEY) -> int:
    signature = hmac.new(key.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    headers = {"X-Tidemill-Timestamp": str(timestamp), "X-Tidemill-Signature": f"v1={signature}", "X-Tidemill-Message-Id": message_id}
    return httpx.post(url, content=body, headers=headers).status_code


def answers(url: str) -> bool:
    try:
        return httpx.post(url).status_code == 401
    except httpx.TransportError:
        return False


@pytest.mark.lasts(94)
@pytest.mark.timeout(300)
def test_the_subscribers_of_the_readme_on_one_real_run(
    infrastructure: Infrastructure, application_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TOPOLOGY, raising=False)
    for name, value in infrastructure.environment.items():
        monkeypatch.setenv(name, value)
    url = f"http://127.0.0.1:{free_port()}/"
    monkeypatch.setenv("TIDEMILL_ALERTS__WEBHOOKS", json.dumps({"mine": {"url": url, "key": KEY}}))
    application = write_application(tmp_path / "application", application_name)
    plan, run = load_plan(application), tmp_path / "run"
    paid = set(load_data_set(plan, "payments", DATA)["payments"].columns.column("payment_id").to_pylist())
    with starting(application_name, infrastructure, tmp_path) as start:
        webhook = start("webhook", port=url.rsplit(":", 1)[1].strip("/"))
        webhook.until(lambda: answers(url), "the receiver's port")
        events = start("events")
        events.until(lambda: events.errors().count("not found in cluster metadata") >= 3, "that there are no topics yet")
        with running_application(application, plan, run, "replay"):
            outcomes, first = start("outcomes", every=0.5), start("predictions", limit=700)
            options = ReplayOptions("payments", lambda plan: load_data_set(plan, "payments", DATA), slice_ms=2 * 86_400_000, folder=run)
            result = replay_run(application, options, os.environ, Console(quiet=True))
            assert result.answered == len(paid) == DATA.count
            webhook.until(lambda: any("fraud is to be trained" in line for line in webhook.lines()), "an alert")
            events.until(lambda: any(line.startswith("retraining finished") for line in events.lines()), "a training")

        assert first.process.wait(patient(60)) == 0 and len(first.records()) == 700
        killed = start("predictions")
        killed.until(lambda: len(killed.lines()) > 300, "some predictions")
        killed.end(signal.SIGKILL)
        rest = start("predictions")
        outcomes.end(signal.SIGKILL)
        outcomes = start("outcomes", every=0.5)
        kept = str(tmp_path / "my-outcomes" / "*.parquet")
        outcomes.until(lambda: pl.read_parquet(kept)["request_id"].n_unique() == len(paid), "all outcomes")
        publish_last(plan.topics, infrastructure)
        rest.until(lambda: rest.records()[-1:] != [] and rest.records()[-1]["request_id"] == "last", "the last prediction")
        outcomes.until(lambda: "last" in pl.read_parquet(kept)["request_id"], "the last outcome")
        events.until(lambda: any("last" in line for line in events.lines()), "the last event")
        assert [program.end() for program in (rest, outcomes)] == [0, 0]
        events.end()

        begun = {record["request_id"] for record in first.records()}
        assert len(begun) == 700 and not begun & {record["request_id"] for record in [*killed.records(), *rest.records()]}, "resumed by group"
        assert {record["request_id"] for one in (first, killed, rest) for record in one.records()} == paid | {"last"}, "aborted ones are no answers"
        table = pl.read_parquet(kept)
        assert table["offset"].n_unique() == len(table) and set(table["request_id"]) == paid | {"last"}
        assert set(table.filter(pl.col("revision") == 0).filter(pl.col("request_id") != "last")["status"]) == {"labelled", "timeout"}
        assert any(line.startswith("drift info fraud bootstrap: 900 labels have come") for line in events.lines()), events.lines()
        assert {line.split()[1] for line in events.lines() if line.startswith("retraining")} >= {"started", "finished"}
        assert any(line.startswith("decision requested train fraud (bootstrap)") for line in events.lines()), events.lines()
        assert not any("never" in line for line in events.lines())

        before, now = len(webhook.lines()), int(time.time())
        body = json.dumps({"forged": True}).encode()
        assert post(url, body, now, "a", key="not the shared key") == 401
        assert post(url, body, now - 3_600, "a") == 401
        assert [post(url, body, now, "a") for _ in range(2)] == [204, 204]
        assert webhook.records()[before:] == [{"forged": True}], "one line for both"


def write_application(folder: Path, app: str) -> Path:
    """The payments under a name of their own, with a small first training and a webhook."""
    source = ROOT / "examples" / "payments"
    (folder / "schemas").mkdir(parents=True)
    for schema in (source / "schemas").iterdir():
        (folder / "schemas" / schema.name).write_bytes(schema.read_bytes())
    text = (source / "app.yaml").read_text().replace("app: payments", f"app: {app}").replace("topic: payments-", f"topic: {app}-")
    for old, new in APP_CHANGES.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "app.yaml").write_text(text + ALERTS)
    return folder


def publish_last(topics: Any, infrastructure: Infrastructure) -> None:
    """Write one record to each topic in a transaction that is aborted, and one after it that is committed: as a stage does, after a failure."""
    registry, broker = ConfluentSchemaRegistry(infrastructure.registry_url), KafkaBroker(infrastructure.bootstrap_servers)
    reader, sink = broker.reader(), broker.transactional_sink(f"{topics.predictions}-writer")
    sink.open()
    for text, commit in (("never", False), ("last", True)):
        sink.begin()
        for topic, name, field in (
            (topics.predictions, "Prediction", "request_id"),
            (topics.outcomes, "Outcome", "request_id"),
            (topics.drift, "Drift", "detail"),
        ):
            codec, place = record_codec(registry, topic, name), TopicPartition(topic, 0)
            example = next(value for records in reader.read(place, 0) for value in records.values if value is not None)
            sink.produce(Emission(topic, 0, [b"k"], [codec.encode({**codec.decode(example), field: text})], np.array([1_736_121_600_000])))
        if commit:
            sink.commit()
        else:
            sink.abort()
    sink.close()
    reader.close()

"""The alerts service as a process of its own on real servers, a receiver of its webhooks, and the records that it is given."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from tests.integration.meters import write_application
from tests.patience import patient
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.runs.watch import record_codec
from tidemill.shared.application.topics import Topics
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.records import Emission, TopicPartition
from tidemill.shared.log.topics import catalogue_topics

ROOT = Path(__file__).parents[2]
DEADLINE_S = patient(60.0)
KEY = "a key of the test's own"


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"not within {DEADLINE_S:.0f} s: {what}"
        time.sleep(0.05)


class Receiver:
    """A webhook's receiver that writes down every post, and calls what the test wants done with it before it answers: a status, 0 for no answer."""

    def __init__(self) -> None:
        self.posts: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.before_answer: Callable[[], int] = lambda: 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.posts.append((dict(self.headers), body))
                if not (status := receiver.before_answer()):
                    # Until the service's end of the connection is gone, and with it the service.
                    self.rfile.read(1)
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Alerts:
    """The service's process, and the topics beside it."""

    def __init__(self, folder: Path, app: str, servers: Infrastructure, receiver: Receiver, clock: str) -> None:
        application = write_application(folder / "application", app)
        with (application / "app.yaml").open("a") as file:
            file.write(
                f"alerts:\n  group_wait: {'0s' if clock == 'live' else '1h'}\n  channels: {{ops: {{kind: webhook, in_replay: true}}}}\n"
                "  rules: {finding: {on: drift, when: \"severity = 'alarm'\"}}\n"
            )
        self.topics = Topics(app, ())
        self.broker = KafkaBroker(servers.bootstrap_servers)
        self.broker.create_topics(catalogue_topics(app, 2))
        self.registry = ConfluentSchemaRegistry(servers.registry_url)
        self.log = folder / "alerts.log"
        self._environment = {
            **os.environ,
            **servers.environment,
            "TIDEMILL_APPLICATION": str(application),
            "TIDEMILL_RUNNER__STATE_FOLDER": str(folder / "state"),
            "TIDEMILL_ALERTS__WEBHOOKS": json.dumps({"ops": {"url": receiver.url, "key": KEY}}),
            "TIDEMILL_COMMANDS__KEY": KEY,
            "TIDEMILL_INGESTION__CLOCK": clock,
            "TIDEMILL_ALERTS__BACKOFF_INITIAL_S": "0.1",
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tidemill.services.alerts"], cwd=ROOT, env=self._environment, stdout=log, stderr=log
            )

    def lives(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        return True

    def codec(self, topic: str, name: str) -> RecordCodec:
        return record_codec(self.registry, topic, name)

    def publish(self, topic: str, name: str, record: dict[str, Any], *, commit: bool = True) -> None:
        """As a stage writes: in a transaction, so that markers stand between the records."""
        sink = self.broker.transactional_sink(f"{topic}-writer")
        sink.open()
        sink.begin()
        at = np.array([record["journal_time"] if "journal_time" in record else record["issued_at"]])
        sink.produce(Emission(topic, 0, [b"key"], [self.codec(topic, name).encode(record)], at))
        if commit:
            sink.commit()
        else:
            sink.abort()
        sink.close()

    def told(self) -> list[dict[str, Any]]:
        codec, reader = record_codec(self.registry, self.topics.alerts, "Alert"), self.broker.reader()
        try:
            values = [value for records in reader.read(TopicPartition(self.topics.alerts, 0), 0) for value in records.values if value is not None]
        finally:
            reader.close()
        return [codec.decode(value) for value in values]

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(patient(20))


@contextmanager
def alerts(folder: Path, app: str, servers: Infrastructure, receiver: Receiver, clock: str = "live") -> Iterator[Alerts]:
    running = Alerts(folder, app, servers, receiver, clock)
    try:
        yield running
    finally:
        assert running.process is not None
        running.process.kill()
        running.process.wait()


def finding(number: int, severity: str = "alarm") -> dict[str, Any]:
    # So long a detail that it is compressed, with lz4 as the stages' records are.
    now = time.time_ns() // 1_000_000
    return {
        "drift_id": str(number), "model": f"m{number}", "journal_partition": 0, "journal_offset": number, "journal_time": now, "kind": "loss",
        "subject": "log_loss", "detector": "adwin", "severity": severity, "statistic": 0.6, "threshold": 0.5, "evidence": {},
        "detail": "worse " * 500,
    }  # fmt: skip


def models(notifications: list[dict[str, Any]]) -> list[str]:
    return [one["labels"]["model"] for one in notifications if one["rule"] == "finding"]

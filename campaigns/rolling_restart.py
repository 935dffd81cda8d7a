"""Two instances of the prediction path are stopped and started in turn under load: ``python -m campaigns.rolling_restart``.

Bars: each ends within 5 s of SIGTERM, with exit code 0; no request waits longer than 3 s for its answer; none is lost, doubled or out of order.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from campaigns.meter_load import MeterLoad
from tidemill.deploy.embedded.component import free_port
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.runs.kafka_clients import connect
from tidemill.runs.pipeline import pipeline_environment
from tidemill.runs.settings import read_settings
from tidemill.runs.topics import create_topics
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.lifeline import tied_to_parent
from tidemill.shared.service.stage import FUSED

APPLICATION = Path(__file__).with_name("applications") / "meters"
STOP_BAR_S, PAUSE_BAR_S = 5.0, 3.0
_DEADLINE_S = 120.0


@dataclass(slots=True)
class PathInstance:
    """One process of ingestion, features and scoring."""

    name: str
    environment: dict[str, str]
    log: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", f"tidemill.services.{FUSED}"]
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, preexec_fn=tied_to_parent())

    def stop(self) -> tuple[float, int]:
        """End it in good order; returns how long that took, in seconds, and the exit code."""
        if self.process is None:
            raise ValueError(f"instance {self.name} has not been started")
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(_DEADLINE_S)
        return time.monotonic() - begun, code

    @property
    def ready(self) -> bool:
        """Whether it has partitions and their state."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, two minutes at most."""
    end = time.monotonic() + _DEADLINE_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {_DEADLINE_S:.0f} s: {what}")
        time.sleep(0.05)


def main() -> int:
    """Run the campaign; returns 0 when every bar is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=500.0, help="readings a second")
    parser.add_argument("--turns", type=int, default=2, help="how often each instance is restarted")
    parser.add_argument("--settle", type=float, default=3.0, help="seconds of load between the steps")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path(".tidemill/campaigns/rolling-restart"))
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    plan, settings = load_plan(APPLICATION), read_settings()
    with Infrastructure.embedded(options.folder / "servers") as servers:
        create_topics(plan, connect(settings.kafka_at(servers.bootstrap_servers)))
        common = pipeline_environment(APPLICATION, servers, options.folder, "live", settings)
        instances = [path_instance(name, common, options.folder) for name in ("0", "1")]
        for one in instances:
            one.start()
        until(lambda: all(one.ready for one in instances), "both instances are ready")
        registry = ConfluentSchemaRegistry(servers.registry_url)
        with MeterLoad(plan, servers.bootstrap_servers, registry, options.rate, options.seed, 5_000_000) as load:
            until(lambda: load.answered > 2 * options.rate and load.lag_s < 1.0, "the load is answered")
            time.sleep(options.settle)
            first, stops = load.published, []
            for turn in range(options.turns):
                for one in instances:
                    begin = load.published
                    took_s, code = one.stop()
                    stops.append((took_s, code))
                    time.sleep(options.settle)
                    alone = load.published
                    one.start()
                    until(lambda one=one: one.ready, f"instance {one.name} is ready again")  # type: ignore[misc]  # mypy cannot infer a lambda with a default
                    time.sleep(options.settle)
                    until(lambda: load.lag_s < 1.0, "the load is answered")
                    waits = [float(np.nanmax(load.latencies_s(*part))) for part in ((begin, alone), (alone, load.published))]
                    sys.stdout.write(
                        f"turn {turn + 1}, instance {one.name}: stopped in {took_s:.2f} s (exit code {code});"
                        f" longest wait for an answer {waits[0]:.2f} s while it left, {waits[1]:.2f} s while it came back\n"
                    )
                    sys.stdout.flush()
            complete = load.drain(60.0)
            waited, verdict = load.latencies_s(first), load.verdict()
        codes = [one.stop()[1] for one in instances]
    pause_s, stop_s = float(np.nanmax(waited)), max(took for took, _ in stops)
    met = complete and verdict.clean and pause_s <= PAUSE_BAR_S and stop_s <= STOP_BAR_S and not any(code for _, code in stops) and not any(codes)
    sys.stdout.write(
        f"{verdict.published:,} requests at {options.rate:g}/s, {len(stops)} restarts: {verdict.lost} lost, {verdict.doubled} doubled,"
        f" {verdict.out_of_order} out of order; longest stop {stop_s:.2f} s (bar {STOP_BAR_S:g}), longest wait {pause_s:.2f} s (bar {PAUSE_BAR_S:g}),"
        f" median {np.nanmedian(waited) * 1e3:.0f} ms\n{'PASSED' if met else 'FAILED'}\n"
    )
    return 0 if met else 1


def path_instance(name: str, common: dict[str, str], folder: Path) -> PathInstance:
    """Describe an instance of the prediction path."""
    port = free_port()
    own = {"TIDEMILL_INSTANCE": name, "TIDEMILL_HEALTH__PORT": str(port), "TIDEMILL_RUNNER__STATE_FOLDER": str((folder / f"state-{name}").absolute())}
    return PathInstance(name, {**os.environ, **common, **own}, folder / f"{FUSED}-{name}.log", port)


if __name__ == "__main__":
    sys.exit(main())

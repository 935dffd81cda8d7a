"""A long run at a steady rate with a stretch of overload in it: ``python -m campaigns.soak --minutes 30 --rate 2000``.

The whole application runs live on real servers. The first third is steady, the second at three times the rate, the last steady again. After the
first and the last third the prediction path is killed. Bars: every request has one answer, in order; the lag of the overload is drained; memory,
open files, progress records and the time a restart takes are at the end what they were after the first third. A model is in service from the
beginning; what has waited longer than the declared `latency_limit` gets the fallback, with the reason `latency`, and once the lag is drained the
model answers again.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from campaigns.meter_load import MeterLoad
from campaigns.starting_model import promote_starting_model
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.runs.running import running_application
from tidemill.runs.supervisor import Supervisor
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.broker import Reader
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.service.stage import FUSED, FUSIBLE

APPLICATION = Path(__file__).with_name("applications") / "meters"
OVERLOAD = 3.0
# A progress record is some hundred bytes; inputs that have not spoken yet come into it once.
GROWTH_BAR_MB, FILES_BAR, PROGRESS_BAR_BYTES, RESTART_BAR_S = 100.0, 10, 1_024, 3.0
# A busy machine may keep everything waiting for a second once in a while.
FALLBACK_SHARE_BAR = 0.001
_DRAINED_S = 1.0
_MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """What the services hold at an instant: resident megabytes and open files by service, the largest progress record in bytes."""

    memory_mb: Mapping[str, float]
    files: Mapping[str, int]
    progress_bytes: int


class Observer:
    """Looks at the services of a run and at their progress topics."""

    def __init__(self, plan: Plan, supervisor: Supervisor, reader: Reader) -> None:
        self._supervisor = supervisor
        self._reader = reader
        topics = [spec for spec in catalogue_topics(plan.application.app, plan.application.partitions) if spec.name.endswith("-progress")]
        self._progress = [TopicPartition(spec.name, partition) for spec in topics for partition in range(spec.partitions)]

    def look(self) -> Sample:
        """Take a sample; a service that is being restarted is left out."""
        memory, files = {}, {}
        for name, pid in self._supervisor.pids().items():
            try:
                process = psutil.Process(pid)
                memory[name], files[name] = process.memory_info().rss / _MB, process.num_fds()
            except psutil.NoSuchProcess:
                continue
        return Sample(memory, files, self._newest_progress())

    def _newest_progress(self) -> int:
        sizes = [0]
        for place in self._progress:
            low, high = self._reader.watermarks(place)
            values = [value for records in self._reader.read(place, max(low, high - 10)) for value in records.values if value is not None]
            sizes += [len(values[-1])] if values else []
        return max(sizes)


class Soak:
    """One run.

    Parameters
    ----------
    load, observer, supervisor
        Of the running application.
    third_s
        Length of each of the three parts.
    """

    def __init__(self, load: MeterLoad, observer: Observer, supervisor: Supervisor, third_s: float) -> None:
        self._load = load
        self._observer = observer
        self._supervisor = supervisor
        self._third_s = third_s
        self.kills = 0
        self._late: list[int] = []

    def run(self) -> list[str]:
        """Go through the three parts; returns the bars that were missed."""
        rate = self._load.rate_per_s
        self._steady("steady", self._third_s)
        first_restart_s = self._kill()
        before = self._observer.look()
        self._load.rate_per_s = rate * OVERLOAD
        self._steady("overload", self._third_s)
        self._load.rate_per_s = rate
        begun = time.monotonic()
        drained_s = self._settled(begun, self._third_s)
        self._late.append(self._answers_of("latency"))
        _say(f"after the overload the lag was below {_DRAINED_S:g} s after {drained_s:.1f} s")
        self._steady("steady again", max(0.0, self._third_s - (time.monotonic() - begun)))
        self._late.append(self._answers_of("latency"))
        last_restart_s = self._kill()
        complete = self._load.drain(60.0)
        return self._missed(before, self._observer.look(), first_restart_s, last_restart_s, drained_s) + ([] if complete else ["requests wait"])

    def _steady(self, name: str, seconds: float) -> None:
        begin, end = self._load.published, time.monotonic() + seconds
        while time.monotonic() < end:
            self._supervisor.check()
            time.sleep(min(5.0, max(0.05, end - time.monotonic())))
        waited, sample = self._load.latencies_s(begin), self._observer.look()
        if not len(waited) or np.isnan(waited).all():
            return
        p50, p99 = np.nanpercentile(waited, (50, 99)) * 1e3
        _say(
            f"{name}: {self._load.published - begin:,} requests, p50 {p50:.0f} ms, p99 {p99:.0f} ms, lag {self._load.lag_s:.1f} s;"
            f" {sum(sample.memory_mb.values()):.0f} MB, {sum(sample.files.values())} files, progress {sample.progress_bytes} B"
        )

    def _answers_of(self, reason: str) -> int:
        return self._load.reasons.get(reason, 0)

    def _kill(self) -> float:
        """Kill the prediction path; returns the seconds until nothing waits any more."""
        names = [name for name in (FUSED, *FUSIBLE) if name in self._supervisor.pids()]
        begun = time.monotonic()
        for name in names:
            self._supervisor.kill(name)
        self.kills += len(names)
        self._supervisor.check()
        time.sleep(_DRAINED_S)
        seconds = self._settled(begun, 120.0)
        _say(f"killed {', '.join(names)}: nothing waits any more after {seconds:.1f} s")
        return seconds

    def _settled(self, begun: float, limit_s: float) -> float:
        while self._load.lag_s > _DRAINED_S and time.monotonic() - begun < limit_s:
            self._supervisor.check()
            time.sleep(0.1)
        return time.monotonic() - begun

    def _missed(self, before: Sample, after: Sample, first_restart_s: float, last_restart_s: float, drained_s: float) -> list[str]:
        missed = []
        for name in before.memory_mb.keys() & after.memory_mb.keys():
            grown = after.memory_mb[name] - before.memory_mb[name]
            _say(f"{name}: {before.memory_mb[name]:.0f} MB after the first third, {after.memory_mb[name]:.0f} MB at the end")
            if grown > GROWTH_BAR_MB:
                missed.append(f"{name} has grown by {grown:.0f} MB (bar {GROWTH_BAR_MB:g})")
            if after.files[name] - before.files[name] > FILES_BAR:
                missed.append(f"{name} has {after.files[name]} open files, {before.files[name]} after the first third")
        if after.progress_bytes - before.progress_bytes > PROGRESS_BAR_BYTES:
            missed.append(f"progress records have grown from {before.progress_bytes} to {after.progress_bytes} bytes")
        if last_restart_s > first_restart_s + RESTART_BAR_S:
            missed.append(f"a restart takes {last_restart_s:.1f} s, {first_restart_s:.1f} s after the first third")
        if drained_s >= self._third_s:
            missed.append(f"the lag of the overload was not drained in {drained_s:.0f} s")
        drained, steady = self._late
        _say(f"{drained:,} answers of the fallback until the lag was drained, {steady - drained:,} in the steady stretch after it")
        if not drained:
            missed.append("a kill and an overload have made no answer late: expected some of the fallback")
        if steady - drained > FALLBACK_SHARE_BAR * self._load.rate_per_s * self._third_s:
            missed.append(f"{steady - drained} answers of the fallback although nothing lagged")
        restarts = sum(self._supervisor.restarts().values())
        return [*missed, f"{restarts} restarts, expected {self.kills}"] if restarts != self.kills else missed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign; returns 0 when every bar is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=2_000.0, help="readings a second; three times as many in the overload")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path(".tidemill/campaigns/soak"))
    options = parser.parse_args(arguments)
    shutil.rmtree(options.folder, ignore_errors=True)
    plan, third_s = load_plan(APPLICATION), options.minutes * 20
    capacity = int(options.rate * third_s * (2 + OVERLOAD) * 1.2) + 100_000
    with running_application(APPLICATION, plan, options.folder, "live") as running:
        servers: Infrastructure = running.infrastructure
        broker, registry = KafkaBroker(servers.bootstrap_servers), ConfluentSchemaRegistry(servers.registry_url)
        reader = broker.reader()
        promote_starting_model(plan, "faulty", broker, registry, ArtifactStore(str(options.folder / "artifacts")), options.seed)
        with MeterLoad(plan, servers.bootstrap_servers, registry, options.rate, options.seed, capacity) as load:
            while load.answered < options.rate or load.lag_s > _DRAINED_S:  # Services start, and compile their kernels the first time.
                running.supervisor.check()
                time.sleep(0.2)
            missed = Soak(load, Observer(plan, running.supervisor, reader), running.supervisor, third_s).run()
            verdict, reasons = load.verdict(), load.reasons
        reader.close()
    _say(f"{verdict.published:,} requests, seed {options.seed}: {verdict.lost} lost, {verdict.doubled} doubled, {verdict.out_of_order} out of order")
    _say(f"reasons of the answers: {reasons}")
    if not verdict.clean:
        missed.append("requests are lost, doubled or out of order")
    for one in missed:
        _say(f"MISSED: {one}")
    _say("FAILED" if missed else "PASSED")
    return 1 if missed else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

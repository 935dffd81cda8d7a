"""Tidemill's side of the benchmark: its real services, started as its supervisor starts them, on applications of `applications/`."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.laboratory import Laboratory
from benchmarks.processes import SystemUnderTest
from benchmarks.throughput import RunFailed, Throughput, committed_records, measure
from tidemill.runs.pipeline import pipeline_environment
from tidemill.runs.settings import read_settings
from tidemill.runs.topics import create_topics
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.kafka.broker import KafkaBroker

APPLICATIONS = Path(__file__).with_name("applications")
_SCHEMAS = Path(__file__).with_name("schemas")
_RUN_LIMIT_S = 300.0
INPUT_LINE, CHARGEBACKS_LINE = "    topic: payments\n", "    topic: chargebacks\n"


@dataclass(frozen=True, slots=True)
class StageRun:
    """One stage over the whole input: figures and the topic with its committed results."""

    stage: str
    figures: Throughput
    output: str


class Installation:
    """One fresh copy of a benchmark application: topics, model and folder of its own, so that runs have nothing in common but the input.

    Attributes
    ----------
    plan
        Of the copy.
    source
        Its raw topic of payments.
    """

    def __init__(self, laboratory: Laboratory, workload: str, source: str | None, partitions: int = 1) -> None:
        self._laboratory = laboratory
        self.run, self.folder = laboratory.new_run(f"tidemill-{workload}")
        self.source = source or f"{self.run}-payments"
        self._partitions = partitions
        self.plan: Plan = load_plan(copy_application(self.folder / "application", workload, self.run, self.source, partitions))
        create_topics(self.plan, KafkaBroker(laboratory.bootstrap_servers))
        self.environment = pipeline_environment(self.folder / "application", laboratory.infrastructure, self.folder, "live", read_settings())

    @property
    def artifacts(self) -> str:
        """Where the copy's models lie."""
        return self.environment["TIDEMILL_ARTIFACTS__URI"]

    def start(self, stage: str, instance: str = "0") -> SystemUnderTest:
        """Start one instance of a service."""
        log = self._laboratory.log_file(f"{self.run}-{stage}-{instance}")
        environment = {**self.environment, "TIDEMILL_INSTANCE": instance}
        return SystemUnderTest([sys.executable, "-m", f"tidemill.services.{stage}"], environment, log, self._laboratory.system_cores)

    def throughput(self, stage: str, output: str, events: int, expected: int) -> StageRun:
        """Run one stage over everything its input topic holds, then stop it."""
        laboratory = self._laboratory
        sut = self.start(stage)
        try:
            place = laboratory.bootstrap_servers, laboratory.broker_pid, output
            figures = measure(sut, *place, events, expected, _RUN_LIMIT_S, self._partitions)
        finally:
            sut.stop()
        return StageRun(stage, figures, output)

    def results(self, output: str, expected: int) -> list[bytes]:
        """Read a stage's committed results.

        Raises
        ------
        RunFailed
            There are not as many as there must be.
        """
        values = committed_records(self._laboratory.bootstrap_servers, output)
        if len(values) != expected:
            raise RunFailed(f"{output}: expected {expected:,} committed records, found {len(values):,}")
        return values

    def keep_logs(self) -> None:
        """Copy the services' logs to where those of the other runs lie."""
        for log in (self.folder / "logs").glob("*.log"):
            shutil.copy(log, self._laboratory.log_file(f"{self.run}-{log.stem}"))

    def close(self) -> None:
        """Delete the copy."""
        self._laboratory.end_run(self.run, self.folder)


def copy_application(folder: Path, workload: str, app: str, source: str, partitions: int = 1) -> Path:
    """Copy a benchmark application into a new folder, under a name of its own and on its own topics; returns the folder."""
    folder.mkdir(parents=True)
    text = (APPLICATIONS / workload.lower() / "app.yaml").read_text(encoding="utf-8")
    text = text.replace("../../schemas/", "").replace(f"app: benchmark-{workload.lower()}", f"app: {app}")
    text = text.replace("\npartitions: 1\n", f"\npartitions: {partitions}\n")
    text = text.replace(INPUT_LINE, f"    topic: {source}\n").replace(CHARGEBACKS_LINE, f"    topic: {app}-chargebacks\n")
    (folder / "app.yaml").write_text(text, encoding="utf-8")
    for schema in ("payment", "chargeback"):
        shutil.copy(_SCHEMAS / f"{schema}.avsc", folder)
    return folder


def total(runs: Sequence[StageRun]) -> Throughput:
    """Add up the stages of the separate topology: CPU time per event adds, the slowest stage bounds the rate when each has a core."""
    figures = [run.figures for run in runs]
    cpu = sum(each.cpu_s_per_million for each in figures)
    return replace(
        figures[-1],
        cpu_s_per_million=cpu,
        broker_cpu_s_per_million=sum(each.broker_cpu_s_per_million for each in figures),
        events_per_cpu_s=1e6 / cpu,
        events_per_s=min(each.events_per_s for each in figures),
        peak_memory_mb=sum(each.peak_memory_mb for each in figures),
        first_output_s=max(each.first_output_s for each in figures),
    )

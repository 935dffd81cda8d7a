"""The audit in a process of its own, so that it takes neither the time nor the memory of what else is checked."""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from tidemill.audit.audit import AuditResult, audit
from tidemill.audit.run_log import TopicLog
from tidemill.runs.kafka_clients import connect
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.lifeline import tie_to
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.observability.settings import KafkaSettings


class AuditFailedError(RuntimeError):
    """The audit could not be done."""


@contextmanager
def auditing(application: Path, kafka: KafkaSettings, registry_url: str, artifacts: str) -> Iterator[Future[AuditResult]]:
    """Audit a finished run beside the body of the `with`; the process is gone afterwards."""
    with ProcessPoolExecutor(1, get_context("spawn"), tie_to, (os.getpid(),)) as processes:
        yield processes.submit(audit_addresses, application, kafka, registry_url, artifacts)


def audit_addresses(application: Path, kafka: KafkaSettings, registry_url: str, artifacts: str) -> AuditResult:
    """Audit what a broker holds of an application; whatever goes wrong is an AuditFailedError that says what."""
    try:
        plan, registry = load_plan(application), ConfluentSchemaRegistry(registry_url)
        return audit(plan, registry, ArtifactStore(artifacts), TopicLog(plan, connect(kafka), registry))
    except Exception as problem:
        # Many errors carry more than their text and would not survive the way to the other process.
        raise AuditFailedError(f"{type(problem).__name__}: {problem}") from problem

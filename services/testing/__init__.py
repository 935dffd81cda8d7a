"""For the test suites of users: an application's real stages on a log in memory, under a clock that the test sets.

See ``docs/guide/testing.md``. Nothing here imports a test framework, starts a process or opens a connection.
"""

from services.testing.application_run import ApplicationRun, Results, build_journal
from services.testing.manual_clock import ManualClock
from shared.avro.registry import MemorySchemaRegistry
from shared.streaming.memory_broker import MemoryBroker

__all__ = ["ApplicationRun", "ManualClock", "MemoryBroker", "MemorySchemaRegistry", "Results", "build_journal"]

"""For the test suites of users: an application's real stages on a log in memory, under a clock that the test sets.

See ``docs/guide/testing.md``. Nothing here imports a test framework, starts a process or opens a connection.
"""

from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.testing.application_run import ApplicationRun, Results, build_journal
from tidemill.testing.manual_clock import ManualClock

__all__ = ["ApplicationRun", "ManualClock", "MemoryBroker", "MemorySchemaRegistry", "Results", "build_journal"]

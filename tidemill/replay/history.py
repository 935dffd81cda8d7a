"""What happened before a run went live: data of the past, replayed on its servers, so that it starts with models and memory."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from rich.console import Console

from tidemill.replay.feed import StreamTable
from tidemill.replay.replay_run import ReplayOptions, ReplayResult, replay_run
from tidemill.runs.instance import InstanceError, read_instance
from tidemill.runs.run_servers import RunServers
from tidemill.shared.application.plan import Plan

_PARTS = 12
_LEAST_MS = 1_000


def feed_history(
    application: Path,
    plan: Plan,
    data: str,
    read: Callable[[Plan], Mapping[str, StreamTable]],
    servers: RunServers,
    environment: Mapping[str, str],
    console: Console,
) -> ReplayResult | None:
    """Replay data into a new run; None where the run has been live already: it goes on where it was.

    Time is cut into twelve slices: a model that is promoted serves from the next one on.

    Parameters
    ----------
    servers
        Of the run, which `up` goes on with.

    Raises
    ------
    InstanceError
        The run in this folder was fed before, and not to the end.
    ApplicationError, SettingsError, DataSetError, ReplayRefused, CoverageTimeout, ServiceFailed
        What is wrong, and what to do.
    """  # fmt: skip
    folder = servers.folder
    before = read_instance(folder)
    if before is not None:
        if before.clock == "live":
            return None
        raise InstanceError(
            f"expected a new run, or one that has been live, in {folder}; found one on the replay clock, whose data may not have been read to the"
            " end: start it without --history, or remove the folder"
        )
    tables = read(plan)
    options = ReplayOptions(data, lambda _: tables, slice_ms=_slice_ms(tables), up=True, folder=folder, servers=servers)
    return replay_run(application, options, environment, console)


def _slice_ms(tables: Mapping[str, StreamTable]) -> int:
    times = np.concatenate([table.available_ms for table in tables.values()])
    span = int(times.max() - times.min()) if len(times) else 0
    return max(_LEAST_MS, -(-span // _PARTS))

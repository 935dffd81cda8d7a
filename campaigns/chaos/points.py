"""Fault points in a running service: the calls that leave the process, struck when an order lies in the process' folder.

The campaign starts services as everybody does, with `hook/` on their Python path, whose `sitecustomize` calls `install`. Nothing of this is in the
services themselves, so that nothing of it costs anything, or can be switched on, outside of the campaign.

An order is a file named after a point, which holds how to strike and a number of seconds. The process that takes it renames it first, so that it
strikes once. Children of a service (trainings) inherit the hook and the folder.
"""

import errno
import functools
import importlib.util
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

VARIABLE = "TIDEMILL_CHAOS_ORDERS"
STRUCK = ".struck"
CLOCK = "clock"
HOWS = ("kill before", "kill within", "kill after", "fail before", "fail after")
_CLOCK_S = 0.05


@dataclass(frozen=True, slots=True)
class Point:
    """A call that leaves the process: a function of a module, or a method of one of its classes."""

    name: str
    module: str
    owner: str
    function: str


POINTS = {
    point.name: point
    for point in (
        Point("open", "tidemill.shared.kafka.sinks", "KafkaTransactionalSink", "open"),
        Point("produce", "tidemill.shared.kafka.sinks", "KafkaTransactionalSink", "produce"),
        Point("offsets", "tidemill.shared.kafka.sinks", "KafkaTransactionalSink", "send_offsets"),
        Point("commit", "tidemill.shared.kafka.sinks", "KafkaTransactionalSink", "commit"),
        Point("abort", "tidemill.shared.kafka.sinks", "KafkaTransactionalSink", "abort"),
        Point("restore", "tidemill.shared.runner.restore", "Restore", "restore"),
        Point("redis", "tidemill.shared.online_store.redis_store", "RedisOnlineStore", "write"),
        Point("lake append", "tidemill.shared.lake.tables", "Lake", "append"),
        Point("lake write", "tidemill.shared.lake.tables", "", "write_deltalake"),
        Point("artifact put", "tidemill.shared.models.artifacts", "ArtifactStore", "put"),
        Point("artifact write", "tidemill.shared.models.artifacts", "", "_write_durably"),
        Point("artifact get", "tidemill.shared.models.artifacts", "ArtifactStore", "get"),
    )
}
"""What can be struck; those that can `fail` are the two at which files are written."""


def install() -> None:
    """Make the points of this process ready; nothing unless the environment names a folder of orders."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        return
    # A service that is forked from a process which had loaded its modules comes by here with them.
    for name in {point.module for point in POINTS.values()} & sys.modules.keys():
        _wrap(sys.modules[name], Path(folder))
    sys.meta_path.insert(0, _PointFinder(Path(folder)))
    _SetClock(Path(folder) / CLOCK).start()


def struck(call: Callable[..., Any], order: Path) -> Callable[..., Any]:
    """Return a call that looks for its order first."""
    taken = order.with_name(order.name + STRUCK)

    @functools.wraps(call)
    def asks(*arguments: Any, **options: Any) -> Any:  # any call
        try:
            order.rename(taken)
        except FileNotFoundError:
            return call(*arguments, **options)
        how, seconds = taken.read_text(encoding="utf-8").rsplit(" ", 1)
        return _strike(how, float(seconds), lambda: call(*arguments, **options))

    return asks


def _strike(how: str, seconds: float, call: Callable[[], Any]) -> Any:
    if how == "kill before":
        _die()
    if how == "kill within":
        threading.Timer(seconds, _die).start()
        result = call()
        time.sleep(seconds)  # It was faster; what follows is not what was to be struck.
        return result
    if how == "fail before":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    result = call()
    if how == "kill after":
        _die()
    if how == "fail after":
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return result


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _PointFinder(MetaPathFinder):
    """Finds the modules that hold points as ever, and wraps their calls once they are loaded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._left = {point.module for point in POINTS.values()} - sys.modules.keys()

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in self._left:
            return None
        self._left.discard(fullname)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _PointLoader(spec.loader, self._folder)
        return spec


class _PointLoader(Loader):
    def __init__(self, inner: Loader, folder: Path) -> None:
        self._inner, self._folder = inner, folder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        _wrap(module, self._folder)


def _wrap(module: ModuleType, folder: Path) -> None:
    """Turn the calls of a module into points."""
    for point in POINTS.values():
        if point.module == module.__name__:
            owner = getattr(module, point.owner) if point.owner else module
            setattr(owner, point.function, struck(getattr(owner, point.function), folder / point.name))


class _SetClock(threading.Thread):
    """Sets this process' wall clock as far ahead as a file says, in seconds; steady clocks go on as they are.

    What Python reads of the time is set (`time.time`, `time.time_ns`), as the services read nothing else.
    """

    def __init__(self, file: Path) -> None:
        super().__init__(name="chaos-clock", daemon=True)
        self._file, self._ahead_ns = file, 0
        self._true_ns, self._true_s = time.time_ns, time.time
        self._look()
        time.time_ns = lambda: self._true_ns() + self._ahead_ns
        time.time = lambda: self._true_s() + self._ahead_ns / 1e9

    def run(self) -> None:
        while True:
            time.sleep(_CLOCK_S)
            self._look()

    def _look(self) -> None:
        try:
            self._ahead_ns = int(float(self._file.read_text(encoding="utf-8")) * 1e9)
        except (FileNotFoundError, ValueError):  # None, or one that is just being written.
            self._ahead_ns = 0

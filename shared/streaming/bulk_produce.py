"""Hands a whole run of records to librdkafka in compiled code, without a Python call per record.

confluent-kafka's `produce` costs more than a microsecond a record, its `produce_batch` as much and takes no timestamps. Its clients are thin: behind
the object's header stands librdkafka's handle, and librdkafka is a shared library with a stable interface (`rd_kafka_produceva`). Where that
is not so, `BulkProduce.of` gives None and the caller produces record by record.
"""

import ctypes
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Producer, __version__, libversion
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from shared.streaming.records import Emission

# Releases of confluent-kafka whose client objects were seen to begin with the handle (tests/contract/test_bulk_produce.py).
KNOWN = frozenset({"2.16.0"})
_HANDLE_AT = object.__basicsize__
# rd_kafka_vu_t: a type in the first word, then a union of 64 bytes.
_VU_WORDS = 9
_TOPIC, _PARTITION, _VALUE, _KEY, _FLAGS, _TIMESTAMP = 1, 3, 4, 5, 7, 8
_COPY = 2
_ARGUMENTS = 6
_NULL = -1
_SOMETHING = b"-"


@intrinsic
def _call(_context: Any, address: Any, first: Any, second: Any, third: Any) -> Any:  # noqa: ANN401, RUF100
    """Call the C function at an address with three words; its word."""
    word = ir.IntType(64)

    def emit(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:  # noqa: ANN401, RUF100
        function = builder.inttoptr(arguments[0], ir.FunctionType(word, [word] * 3).as_pointer())
        return builder.call(function, arguments[1:])

    return types.int64(types.int64, types.int64, types.int64, types.int64), emit


@njit(cache=True, nogil=True)
def _produce(function, handle, arguments, place, keys, key_bytes, values, value_bytes, times):  # type: ignore[no-untyped-def]  # noqa: PLR0913, RUF100  # pragma: no cover
    """Produce records in order; returns how many are done and the error that ended it (0: none).

    Parameters
    ----------
    arguments : int64 array
        Of `rd_kafka_produceva`, filled in but for key, value and time; `place` is its address.
    keys, values
        Addresses of their bytes, one after the other.
    key_bytes, value_bytes, times : int64 arrays, shape (n,)
        Lengths, -1 for null.
    """
    for i in range(times.size):
        m, n = key_bytes[i], value_bytes[i]
        arguments[2 * _VU_WORDS + 1], arguments[2 * _VU_WORDS + 2] = (values, n) if n >= 0 else (0, 0)
        arguments[3 * _VU_WORDS + 1], arguments[3 * _VU_WORDS + 2] = (keys, m) if m >= 0 else (0, 0)
        arguments[4 * _VU_WORDS + 1] = times[i]
        error = _call(function, handle, place, _ARGUMENTS)  # type: ignore[call-arg, var-annotated]
        if error != 0:
            return i, error
        keys += max(m, 0)
        values += max(n, 0)
    return times.size, 0


class BulkProduce:
    """Produces runs through one `Producer`; made by `of`."""

    def __init__(self, producer: Producer, library: ctypes.CDLL) -> None:
        self._producer = producer
        self._handle = ctypes.c_void_p.from_address(id(producer) + _HANDLE_AT).value
        self._function = ctypes.cast(library.rd_kafka_produceva, ctypes.c_void_p).value
        self._forget = library.rd_kafka_error_destroy
        self._forget.argtypes = [ctypes.c_void_p]
        self._arguments = np.zeros(_ARGUMENTS * _VU_WORDS, np.int64)
        kinds = (_TOPIC, _PARTITION, _VALUE, _KEY, _TIMESTAMP, _FLAGS)
        self._arguments[::_VU_WORDS] = kinds
        self._arguments[kinds.index(_FLAGS) * _VU_WORDS + 1] = _COPY
        self._topics: dict[str, Any] = {}

    @classmethod
    def of(cls, producer: Producer) -> "BulkProduce | None":
        """Return the bulk side of a producer, None where it is not known to work."""
        library = _library()
        return None if library is None else cls(producer, library)

    def produce(self, run: Emission, begin: int, end: int) -> int:
        """Queue records `begin` to `end` of a run until one is refused; returns the number of the first that is not queued.

        The one that was refused is for the caller to produce by itself, which gives its error.
        """
        name = self._topics.setdefault(run.topic, ctypes.create_string_buffer(run.topic.encode()))
        arguments = self._arguments
        arguments[1] = ctypes.addressof(name)
        arguments[_VU_WORDS + 1] = run.partition
        key_content, key_bytes = _joined(run.keys[begin:end])
        value_content, value_bytes = _joined(run.values[begin:end])
        # A timestamp of zero is librdkafka's word for now.
        times = np.zeros(end - begin, np.int64) if run.timestamps_ms is None else np.ascontiguousarray(run.timestamps_ms[begin:end], np.int64)
        done, error = _produce(
            self._function, self._handle, arguments, arguments.ctypes.data,
            _address(key_content), key_bytes, _address(value_content), value_bytes, times,
        )  # fmt: skip
        if error:
            self._forget(error)
        return begin + int(done)


def _joined(items: Sequence[bytes | None]) -> tuple[bytes, NDArray[np.int64]]:
    n = len(items)
    if None in items:
        present = [item for item in items if item is not None]
        lengths = np.fromiter((_NULL if item is None else len(item) for item in items), np.int64, n)
        return b"".join(present), lengths
    return b"".join(items), np.fromiter(map(len, items), np.int64, n)  # type: ignore[arg-type]


def _address(content: bytes) -> int:
    # An empty value is no null: it has an address, too.
    return int(np.frombuffer(content or _SOMETHING, np.uint8).ctypes.data)


@cache
def _library() -> ctypes.CDLL | None:
    """Return the librdkafka that confluent-kafka has loaded, if both are known."""
    known = {__version__, str(libversion()[0])} <= KNOWN
    if not known or sys.implementation.name != "cpython" or sys.platform != "linux" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    # Five columns, then the path, which may have blanks in it.
    mapped = (line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines())
    loaded = {columns[5] for columns in mapped if len(columns) == 6 and "librdkafka" in Path(columns[5]).name}
    return ctypes.CDLL(loaded.pop()) if len(loaded) == 1 else None

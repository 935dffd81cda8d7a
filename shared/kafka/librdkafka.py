"""The librdkafka behind confluent-kafka: its library, the handles of clients, and what compiled loops need to call it.

confluent-kafka's clients are thin: behind the object's header stands librdkafka's handle, and librdkafka is a shared library with a stable interface.
Where that is not so, `library` gives None and records pass one by one through confluent-kafka.
"""

import ctypes
import sys
from functools import cache
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, __version__, libversion
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# Releases of confluent-kafka whose client objects were seen to begin with the handle (tests/contract).
KNOWN = frozenset({"2.16.0"})
_HANDLE_AT = object.__basicsize__
_WORD = ir.IntType(64)
_pointer, _integer, _text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
# Of what is called from here: the arguments, then the result.
_SIGNATURES: dict[str, tuple[list[Any], Any]] = {
    "rd_kafka_topic_new": ([_pointer, _text, _pointer], _pointer),
    "rd_kafka_topic_destroy": ([_pointer], None),
    "rd_kafka_topic_name": ([_pointer], _text),
    "rd_kafka_produce_batch": ([_pointer, ctypes.c_int32, _integer, _pointer, _integer], _integer),
    "rd_kafka_error_destroy": ([_pointer], None),
    "rd_kafka_queue_new": ([_pointer], _pointer),
    "rd_kafka_queue_get_partition": ([_pointer, _text, ctypes.c_int32], _pointer),
    "rd_kafka_queue_forward": ([_pointer, _pointer], None),
    "rd_kafka_queue_destroy": ([_pointer], None),
    "rd_kafka_consume_batch_queue": ([_pointer, _integer, _pointer, ctypes.c_size_t], ctypes.c_ssize_t),
    "rd_kafka_message_errstr": ([_pointer], _text),
}


@cache
def library() -> ctypes.CDLL | None:
    """Return the librdkafka that confluent-kafka has loaded, if both are known."""
    known = {__version__, str(libversion()[0])} <= KNOWN
    if not known or sys.implementation.name != "cpython" or sys.platform != "linux" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    # Five columns, then the path, which may have blanks in it.
    mapped = (line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines())
    loaded = {columns[5] for columns in mapped if len(columns) == 6 and "librdkafka" in Path(columns[5]).name}
    if len(loaded) != 1:
        return None
    native = ctypes.CDLL(loaded.pop())
    for name, (arguments, result) in _SIGNATURES.items():
        function = getattr(native, name)
        function.argtypes, function.restype = arguments, result
    return native


def handle_of(client: Producer | Consumer) -> int:
    """Return `rd_kafka_t *` of a client; its class must be one of confluent-kafka's, not Python's."""
    handle = ctypes.c_void_p.from_address(id(client) + _HANDLE_AT).value
    if not handle:
        raise RuntimeError("the client is closed")
    return handle


def address_of(function: Any) -> int:  # a ctypes function
    """Return where a C function begins."""
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)


@intrinsic
def call1(_context: Any, address: Any, first: Any) -> Any:
    """Call the C function at an address with a word; its word."""
    return types.int64(types.int64, types.int64), _emit_call


@intrinsic
def call2(_context: Any, address: Any, first: Any, second: Any) -> Any:
    """Call the C function at an address with two words; its word."""
    return types.int64(types.int64, types.int64, types.int64), _emit_call


@intrinsic
def call3(_context: Any, address: Any, first: Any, second: Any, third: Any) -> Any:
    """Call the C function at an address with three words; its word."""
    return types.int64(types.int64, types.int64, types.int64, types.int64), _emit_call


@intrinsic
def load(_context: Any, address: Any) -> Any:
    """Return the word at an address."""

    def emit(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], _WORD.as_pointer()))

    return types.int64(types.int64), emit


@intrinsic
def copy(_context: Any, target: Any, source: Any, size: Any) -> Any:
    """Copy bytes from one address to another."""

    def emit(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        target, source = (builder.inttoptr(address, byte) for address in arguments[:2])
        cgutils.raw_memcpy(builder, target, source, arguments[2], 1)
        return arguments[2]

    return types.int64(types.int64, types.int64, types.int64), emit


def _emit_call(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
    words = [_WORD] * (len(arguments) - 1)
    return builder.call(builder.inttoptr(arguments[0], ir.FunctionType(_WORD, words).as_pointer()), arguments[1:])

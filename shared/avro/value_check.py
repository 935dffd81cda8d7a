"""Whether bytes are one value of an Avro type, before a library that trusts them reads them."""

import numpy as np

from tidemill.shared.avro.read_kernel import CUT, DEPTH, FINE, RANGE, walk
from tidemill.shared.avro.schema_tree import AvroType
from tidemill.shared.avro.skip_program import SkipProgram
from tidemill.shared.log.errors import InvalidRecord

_SAID = {
    CUT: "the record goes on beyond the end of the message",
    DEPTH: "expected at most 64 values within each other, found more",
    RANGE: "expected an int of 32 bits, found a larger number",
}


class ValueCheck:
    """Walks over values of one type: depth, counts, lengths, branches, symbols and ranges, in time bounded by their bytes."""

    def __init__(self, kind: AvroType) -> None:
        program = SkipProgram()
        self._root = program.number(kind)
        self._table = program.table()
        self._stack, self._left = np.empty(64, np.int64), np.empty(64, np.int64)

    def require(self, value: bytes, begin: int) -> None:
        """Raise InvalidRecord (row 0) unless `value` is one value from `begin` to its end."""
        content = np.frombuffer(value, np.uint8)
        at, verdict = walk(
            content, np.int64(begin), np.int64(len(value)), self._root, self._table.nodes, self._table.children, self._stack, self._left
        )
        if verdict != FINE:
            raise InvalidRecord(0, "undecodable", _SAID.get(verdict, "expected a value of the schema it names, found other bytes"))
        if at != len(value):
            raise InvalidRecord(0, "trailing_bytes", f"expected {at} bytes, found {len(value)}")

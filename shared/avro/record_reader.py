"""Avro records of one writer's schema as the Arrow columns of one reader's, with a verdict for each record.

The writer's fields are read in their order by compiled code; what the reader does not know is walked over, whatever its type. What a record becomes
never depends on its neighbours: nothing is decided by batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.shared.avro import read_kernel
from tidemill.shared.avro.arrow_types import arrow_schema, arrow_type
from tidemill.shared.avro.field_kinds import BOOLEAN, BYTES, DOUBLE, ENUM, FLOAT, GROUP, INT, LONG, NULL, SKIP, SPAN, TEXT
from tidemill.shared.avro.json_values import AVRO_DEFAULT, nullable_converter
from tidemill.shared.avro.leaf_columns import NumberColumn, TextColumn, Verdicts, number_column, text_column
from tidemill.shared.avro.nested_columns import list_column, union_column
from tidemill.shared.avro.resolution import refusal, require_default, writers_field
from tidemill.shared.avro.schema_tree import AvroField, AvroType, UnreadableSchema
from tidemill.shared.avro.skip_program import SkipProgram

_KINDS = {
    "string": TEXT, "bytes": TEXT, "long": LONG, "int": INT, "double": DOUBLE, "float": FLOAT,
    "boolean": BOOLEAN, "enum": ENUM, "fixed": BYTES, "null": NULL,
}  # fmt: skip
_TEXTS = (TEXT, BYTES, SPAN)
_REASONS = {
    read_kernel.CUT: ("truncated", "the record goes on beyond the end of the message"),
    read_kernel.TRAILING: ("trailing_bytes", "the message goes on beyond the end of the record: it was written with another schema than it names"),
    read_kernel.BRANCH: ("undecodable", "expected a branch of a union, found a number beyond them"),
    read_kernel.RANGE: ("out_of_range", "expected an int of 32 bits, found a larger number"),
    read_kernel.LENGTHS: ("undecodable", "expected a length, found a negative number"),
    read_kernel.DEPTH: ("undecodable", "expected at most 64 values within each other, found more"),
    read_kernel.ITEMS: ("undecodable", "expected items that take room in the message, found a count beyond all measure"),
    read_kernel.TRUTH: ("undecodable", "expected a boolean of 0 or 1, found another byte"),
    read_kernel.SYMBOLS: ("undecodable", "expected a symbol of the enum, found a number beyond them"),
}


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A column and where it comes from: a field of the kernel, or (-1) a default.

    `within` is the field of the nearest record around it that may be null, -1 for none.
    """

    name: str
    writer: AvroType
    reader: AvroType
    nullable: bool
    source: int
    within: int
    default: pa.Scalar | None = None


@dataclass(frozen=True, slots=True)
class _OnlyNull:
    """A union of the writer's, a field of the kernel, of which the reader can read nothing but null."""

    source: int
    writer: AvroType
    name: str
    problem: str


@dataclass(slots=True)
class _Fields:
    """What the kernel reads, in the writer's order."""

    kinds: list[int] = field(default_factory=list)
    nulls: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    program: SkipProgram = field(default_factory=SkipProgram)

    def add(self, kind: int, null: int = -1, size: int = 0) -> int:
        self.kinds.append(kind)
        self.nulls.append(null)
        self.sizes.append(size)
        return len(self.kinds) - 1

    def cut(self, count: int) -> None:
        """Take back all fields but the first."""
        del self.kinds[count:], self.nulls[count:], self.sizes[count:]


class RecordReader:
    """Reads records of a writer's schema; raises UnreadableSchema when none of them could ever be read.

    Parameters
    ----------
    writer, reader
        Record types.
    exact
        Refuse messages with bytes after their last field.
    """

    def __init__(self, writer: AvroType, reader: AvroType, exact: bool = True) -> None:
        self.arrow = arrow_schema(reader)
        self._exact = exact
        self._fields = _Fields()
        self._demands: list[tuple[int, int, str]] = []
        self._only_nulls: list[_OnlyNull] = []
        self._group, self._never = -1, False
        leaves: dict[str, _Leaf] = {}
        self._resolve(writer, reader, "", -1, False, leaves)
        self._leaves = [leaves[name] for name in self.arrow.names]
        if not self._fields.kinds:
            self._fields.add(NULL)
        fields = self._fields
        self._kinds, self._nulls = np.array(fields.kinds, np.int8), np.array(fields.nulls, np.int8)
        self._sizes = np.array(fields.sizes, np.int64)
        texts = np.isin(self._kinds, _TEXTS)
        self._slots = np.where(texts, np.cumsum(texts), np.cumsum(~texts)) - 1
        self._slot_of = self._slots.tolist()
        self._texts, self._numbers = int(texts.sum()), int((~texts).sum())
        self._table = fields.program.table()
        inside = np.zeros(len(self._kinds), np.bool_)
        for group in np.flatnonzero(self._kinds == GROUP).tolist():
            inside[group + 1 : group + 1 + int(self._sizes[group])] = True
        self._optional = (inside | (self._nulls >= 0)).tolist()
        kinds = [self.arrow.field(i).type for i in range(len(self._leaves))]
        self._columns = [(leaf, kind, *self._column(leaf, kind)) for leaf, kind in zip(self._leaves, kinds, strict=True)]

    def _column(self, leaf: _Leaf, kind: pa.DataType) -> tuple[TextColumn | None, NumberColumn | None]:
        """Return what makes a column of what the kernel reads, of texts or of numbers; neither for a default."""
        if leaf.source < 0:
            return None, None
        if leaf.writer.kind == "union":
            return union_column(leaf.name, leaf.writer, leaf.reader, kind, RecordReader), None
        if leaf.writer.kind in ("array", "map"):
            return list_column(leaf.name, leaf.writer, leaf.reader, kind, RecordReader), None
        if self._kinds[leaf.source] in _TEXTS:
            return text_column(leaf.name, leaf.writer, leaf.reader, kind), None
        return None, number_column(leaf.name, leaf.writer, leaf.reader, kind)

    def read(
        self, content: NDArray[np.uint8], begins: NDArray[np.int64], stops: NDArray[np.int64]
    ) -> tuple[list[pa.Array], Mapping[int, tuple[str, str]]]:
        """Return the columns of all n records, and reason and detail of those that are refused (whose columns mean nothing).

        Parameters
        ----------
        content : uint8 array
        begins, stops : int64 arrays, shape (n,)
            Where each record begins, and its message ends.

        Raises
        ------
        BatchTooLarge
            Read fewer records at once.
        """
        columns, verdicts, _ = self.read_with_groups(content, begins, stops)
        return columns, verdicts

    def read_with_groups(
        self, content: NDArray[np.uint8], begins: NDArray[np.int64], stops: NDArray[np.int64]
    ) -> tuple[list[pa.Array], Mapping[int, tuple[str, str]], NDArray[np.bool_] | None]:
        """Return also where the first record among the fields that may be null is so (None when there is none that may)."""
        n = len(stops)
        numbers = np.empty((self._numbers, n), np.int64)
        valid = np.empty((len(self._kinds), n), np.uint8)
        places = np.empty((self._texts, n), np.int64)
        ends = np.zeros((self._texts, n + 1), np.int64)
        codes = np.empty(n, np.uint8)
        nodes, children = self._table.nodes, self._table.children
        wrong = read_kernel.read_rows(
            content, begins, stops, self._exact, self._kinds, self._nulls, self._sizes, self._slots, nodes, children, numbers, valid, places, ends,
            codes,
        )  # fmt: skip
        verdicts = Verdicts()
        if wrong:
            for row in np.flatnonzero(codes).tolist():
                verdicts.refuse(row, *_REASONS[int(codes[row])])
        for group, within, name in self._demands:
            absent = valid[group] == 0
            absent = absent if within < 0 else absent & (valid[within] != 0)
            verdicts.refuse_all(absent, "missing_value", f"record {name} is null and may not be for this reader")
        for one in self._only_nulls:
            slot = self._slot_of[one.source]
            branches, begun = np.empty(n, np.int64), np.empty(n, np.int64)
            read_kernel.read_branches(content, places[slot], ends[slot], branches, begun)
            nulls = [b for b, branch in enumerate(one.writer.branches) if branch.kind == "null"]
            verdicts.refuse_all((branches >= 0) & ~np.isin(branches, nulls), "incompatible_schema", f"field {one.name}: {one.problem}")
        columns = []
        for leaf, kind, of_texts, of_numbers in self._columns:
            if leaf.source < 0:
                columns.append(_repeated(leaf, kind, n, valid))
                continue
            slot = self._slot_of[leaf.source]
            present = valid[leaf.source] if wrong or self._optional[leaf.source] else None
            if leaf.nullable and present is not None and not present.any():
                columns.append(pa.nulls(n, kind))
                continue
            if of_texts is not None:
                column = of_texts(content, places[slot], ends[slot], present, verdicts)
            elif of_numbers is not None:
                column = of_numbers(numbers[slot], present, verdicts)
            if column.null_count and not leaf.nullable:
                absent = np.asarray(column.is_null().to_numpy(zero_copy_only=False), np.bool_)
                absent = absent if leaf.within < 0 else absent & (valid[leaf.within] != 0)
                verdicts.refuse_all(absent, "missing_value", f"field {leaf.name} is null and has no default for this reader")
            columns.append(column)
        absent = np.ones(n, np.bool_) if self._never else valid[self._group] == 0 if self._group >= 0 else None
        return columns, verdicts.by_row, absent

    def _resolve(self, writer: AvroType, reader: AvroType, prefix: str, within: int, in_nullable: bool, leaves: dict[str, _Leaf]) -> None:
        wanted = [(own, writers_field(writer, own)) for own in reader.fields]
        readers = {id(source): own for own, source in wanted if source is not None}
        twice = [own.name for own, source in wanted if source is not None and readers[id(source)] is not own]
        if twice:
            raise UnreadableSchema(f"field {prefix}{twice[0]}: the writer's field that its alias names is read already")
        for theirs in writer.fields:
            ours = readers.get(id(theirs))
            if ours is None:
                self._fields.add(SKIP, -1, self._fields.program.number(theirs.type))
            else:
                self._field(theirs.type, ours, prefix, within, in_nullable, leaves)
        for own, source in wanted:
            if source is None:
                require_default(writer, own)
                self._defaults(own.type, own.default, prefix + own.name, within, in_nullable, leaves)

    def _field(self, writer: AvroType, field: AvroField, prefix: str, within: int, in_nullable: bool, leaves: dict[str, _Leaf]) -> None:
        name = prefix + field.name
        theirs, null = writer.without_null()
        ours, own_null = field.type.without_null()
        nullable = in_nullable or own_null >= 0
        if ours.kind == "record":
            marks = len(self._fields.kinds), len(self._demands), len(self._only_nulls)
            inner: dict[str, _Leaf] = {}
            try:
                self._record(writer, field, name, within, nullable, inner)
            except UnreadableSchema as problem:
                if own_null < 0 or writer.kind != "union" or all(branch.kind != "null" for branch in writer.branches):
                    raise
                self._fields.cut(marks[0])
                del self._demands[marks[1] :], self._only_nulls[marks[2] :]
                at = self._fields.add(SPAN, -1, self._fields.program.number(writer))
                self._only_nulls.append(_OnlyNull(at, writer, name, str(problem)))
                self._never |= "." not in name
                inner = {}
                self._defaults(field.type, None, name, within, True, inner)
            leaves |= inner
            return
        if theirs.kind == "union":
            at = self._fields.add(SPAN, -1, self._fields.program.number(theirs))
        elif theirs.kind == "null" or (theirs.kind != "record" and not refusal(theirs, ours)):
            if theirs.kind == "null" and not nullable:
                raise UnreadableSchema(f"field {name}: expected {ours}, the writer has null")
            spans = theirs.kind in ("array", "map")
            kind, size = (SPAN, self._fields.program.number(theirs)) if spans else (_KINDS[theirs.kind], len(theirs.symbols) or theirs.size)
            at = self._fields.add(kind, null, size)
        else:
            reason = refusal(theirs, ours) or f"expected {ours}, the writer has {theirs}"
            if null < 0 or not nullable:
                raise UnreadableSchema(f"field {name}: {reason}")
            # Null is the one value of the writer's that can be read.
            at = self._fields.add(SPAN, -1, self._fields.program.number(writer))
            theirs = writer
        leaves[name] = _Leaf(name, theirs, ours, own_null >= 0, at, within)

    def _record(self, writer: AvroType, field: AvroField, name: str, within: int, nullable: bool, leaves: dict[str, _Leaf]) -> None:
        """Resolve a field that is a record, of both, and may be null."""
        theirs, null = writer.without_null()
        ours, own_null = field.type.without_null()
        if theirs.kind != "record":
            raise UnreadableSchema(f"field {name}: expected {ours}, the writer has {writer}")
        group = within
        begun = len(self._fields.kinds)
        if null >= 0:
            at = self._fields.add(GROUP, null)
            if own_null < 0:
                self._demands.append((at, within, name))
            group = at
            # Not one within another: an item is there where a record within it is null.
            self._group = at if self._group < 0 and "." not in name else self._group
        self._resolve(theirs, ours, f"{name}.", group, nullable, leaves)
        if null >= 0:
            self._fields.sizes[begun] = len(self._fields.kinds) - begun - 1

    def _defaults(self, reader: AvroType, default: object, name: str, within: int, in_nullable: bool, leaves: dict[str, _Leaf]) -> None:
        ours, null = reader.without_null()
        if ours.kind == "record":
            if default is not None and not isinstance(default, dict):
                raise UnreadableSchema(f"field {name}: expected an object as default, found {str(default)[:80]}")
            for field in ours.fields:
                inner = None if default is None else default.get(field.name, field.default)
                self._defaults(field.type, inner, f"{name}.{field.name}", within, in_nullable or (null >= 0 and default is None), leaves)
            return
        kind = arrow_type(ours, name)
        try:
            value = None if default is None and in_nullable else nullable_converter(reader, name, AVRO_DEFAULT)(default)
            scalar = pa.array([value], kind)[0]
        except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
            raise UnreadableSchema(f"field {name}: its default does not fit its type: {error}") from error
        leaves[name] = _Leaf(name, ours, ours, True, -1, within, scalar)


def _repeated(leaf: _Leaf, kind: pa.DataType, n: int, valid: NDArray[np.uint8]) -> pa.Array:
    if leaf.default is None or not leaf.default.is_valid:
        return pa.nulls(n, kind)
    column = pa.repeat(leaf.default, n)
    if leaf.within >= 0:
        rows = pa.array(np.zeros(n, np.int64), mask=valid[leaf.within] == 0)
        column = pa.array([leaf.default.as_py()], kind).take(rows)
    return column

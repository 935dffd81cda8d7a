"""Avro schemas as trees: parsed once, bounded in depth and size, whoever registered them.

`fastavro.parse_schema` recurses as deep as the schema does, so a schema of a few thousand nested arrays, which anybody may register, ends the
process. This parser refuses what is deeper than `MOST_DEPTH` or has more than `MOST_TYPES` types.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

MOST_DEPTH = 64
MOST_TYPES = 10_000
_MOST_TEXT = 4 << 20
_MOST_FIXED = 1 << 20
MOST_KEPT_TEXT = 16 << 10
"""Longest schema (characters) of which a process keeps what it has made of it: anybody may register longer ones."""
PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
LOGICAL_BASES = {
    "date": ("int",), "time-millis": ("int",), "time-micros": ("long",), "timestamp-millis": ("long",), "timestamp-micros": ("long",),
    "timestamp-nanos": ("long",), "local-timestamp-millis": ("long",), "local-timestamp-micros": ("long",), "local-timestamp-nanos": ("long",),
    "uuid": ("string", "fixed"), "decimal": ("bytes", "fixed"), "duration": ("fixed",),
}  # fmt: skip


class UnreadableSchema(TypeError):
    """It is no Avro schema, is out of bounds, or cannot be resolved to the reader's."""


@dataclass(eq=False, slots=True)
class AvroField:
    """A field of a record; `default` is JSON, and only means something where `has_default`."""

    name: str
    type: "AvroType"
    aliases: tuple[str, ...]
    has_default: bool
    default: Any


@dataclass(eq=False, slots=True)
class AvroType:
    """One type. References to named types are the same object, so a recursive schema is a cycle.

    Attributes
    ----------
    kind
        A primitive, ``fixed``, ``enum``, ``array``, ``map``, ``record`` or ``union``.
    logical
        Known logical type that fits the kind, else empty (as the specification says: the underlying type counts).
    name
        Full name of a named type.
    default
        Symbol of an enum that unknown symbols become.
    branches
        Of a union; of an array or map the one type of its items.
    """

    kind: str
    logical: str = ""
    name: str = ""
    aliases: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    default: str | None = None
    size: int = 0
    precision: int = 0
    scale: int = 0
    fields: list[AvroField] = field(default_factory=list)
    branches: list["AvroType"] = field(default_factory=list)

    @property
    def item(self) -> "AvroType":
        """Type of an array's items or a map's values."""
        return self.branches[0]

    @property
    def unqualified(self) -> str:
        """Name without its namespace."""
        return self.name.rpartition(".")[2]

    def without_null(self) -> tuple["AvroType", int]:
        """Return the other type of a union of null and one type, and which branch is null; the type itself and -1 for everything else."""
        if self.kind != "union" or len(self.branches) != 2:
            return self, -1
        nulls = [i for i, branch in enumerate(self.branches) if branch.kind == "null"]
        return (self.branches[1 - nulls[0]], nulls[0]) if len(nulls) == 1 else (self, -1)

    def __str__(self) -> str:
        inner = ", ".join(branch.kind if branch.kind == "union" else str(branch) for branch in self.branches[:8])
        what = f"{self.kind} of {inner}" if self.branches else f"{self.kind} {self.name}".strip()
        return f"{what} ({self.logical})" if self.logical else what


def parse_record(schema: str) -> AvroType:
    """Parse an Avro record schema (JSON), as `parse_type` does."""
    parsed = parse_type(schema)
    if parsed.kind != "record":
        raise UnreadableSchema(f"expected an Avro record schema, found {schema[:80]}")
    return parsed


def parse_type(schema: str) -> AvroType:
    """Parse an Avro schema (JSON) of any type; raises UnreadableSchema.

    The same text is parsed once in a process: the tree is everybody's, and nobody may change it.
    """
    if len(schema) > _MOST_TEXT:
        raise UnreadableSchema(f"expected a schema of at most {_MOST_TEXT} characters, found {len(schema)}")
    return _parsed(schema) if len(schema) > MOST_KEPT_TEXT else _kept(schema)


def _parsed(schema: str) -> AvroType:
    try:
        return _Parser().type(json.loads(schema), "", 0)
    except UnreadableSchema as error:
        raise UnreadableSchema(f"expected an Avro schema, found {schema[:80]} ({error})") from error
    except (ValueError, RecursionError) as error:
        raise UnreadableSchema(f"expected an Avro schema, found {schema[:80]} ({type(error).__name__}: {error})") from error


_kept = lru_cache(maxsize=128)(_parsed)


class _Parser:
    def __init__(self) -> None:
        self._named: dict[str, AvroType] = {}
        self._count = 0

    def type(self, declared: Any, namespace: str, depth: int) -> AvroType:  # Avro JSON is free-form
        self._count += 1
        if depth > MOST_DEPTH or self._count > MOST_TYPES:
            raise UnreadableSchema(f"expected at most {MOST_DEPTH} types within each other and {MOST_TYPES} in all")
        if isinstance(declared, str):
            return self._reference(declared, namespace)
        if isinstance(declared, list):
            return self._union(declared, namespace, depth)
        if not isinstance(declared, dict) or "type" not in declared:
            raise UnreadableSchema(f"expected a type, found {str(declared)[:80]}")
        kind = declared["type"]
        if isinstance(kind, (dict, list)):
            return self.type(kind, namespace, depth + 1)
        if kind in ("record", "error", "enum", "fixed"):
            return self._with_logical(self._new_named(declared, namespace, depth), declared)
        if kind in ("array", "map"):
            key = "items" if kind == "array" else "values"
            if key not in declared:
                raise UnreadableSchema(f"expected {key} in a type {kind}")
            return AvroType(kind, branches=[self.type(declared[key], namespace, depth + 1)])
        return self._with_logical(self._reference(kind, namespace), declared)

    def _reference(self, name: Any, namespace: str) -> AvroType:
        if name in PRIMITIVES:
            return AvroType(name)
        if isinstance(name, str):
            for full in (name if "." in name else f"{namespace}.{name}".lstrip("."), name):
                if full in self._named:
                    return self._named[full]
        raise UnreadableSchema(f"expected a type of Avro, found {str(name)[:80]!r}")

    def _union(self, declared: list[Any], namespace: str, depth: int) -> AvroType:
        branches = [self.type(branch, namespace, depth + 1) for branch in declared]
        if not branches or any(branch.kind == "union" for branch in branches):
            raise UnreadableSchema("expected a union of one type and more, none of them a union")
        return AvroType("union", branches=branches)

    def _new_named(self, declared: Mapping[str, Any], namespace: str, depth: int) -> AvroType:
        name = declared.get("name")
        if not isinstance(name, str) or not name:
            raise UnreadableSchema(f"expected a name of the {declared['type']}")
        if "." in name:
            namespace = name.rpartition(".")[0]
        elif isinstance(declared.get("namespace"), str):
            namespace = declared["namespace"]
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        if full in self._named:
            raise UnreadableSchema(f"expected one definition of {full}, found two")
        kind = "record" if declared["type"] == "error" else declared["type"]
        made = self._named[full] = AvroType(kind, name=full, aliases=_texts(declared.get("aliases", []), "aliases"))
        if kind == "enum":
            made.symbols = _texts(declared.get("symbols"), "symbols")
            default = declared.get("default")
            if not made.symbols or (default is not None and default not in made.symbols):
                raise UnreadableSchema(f"expected symbols of {full}, and its default among them")
            made.default = default
        elif kind == "fixed":
            size = declared.get("size")
            if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MOST_FIXED:
                raise UnreadableSchema(f"expected a size of {full} from 0 to {_MOST_FIXED}, found {size!r}")
            made.size = size
        else:
            self._fields(made, declared.get("fields"), namespace, depth)
        return made

    def _fields(self, record: AvroType, declared: Any, namespace: str, depth: int) -> None:
        if not isinstance(declared, list):
            raise UnreadableSchema(f"expected fields of {record.name}")
        names: set[str] = set()
        for one in declared:
            if not isinstance(one, dict) or not isinstance(one.get("name"), str) or "type" not in one or one["name"] in names:
                raise UnreadableSchema(f"expected fields of {record.name} with a name of their own and a type, found {str(one)[:80]}")
            names.add(one["name"])
            inner = self.type(one["type"], namespace, depth + 1)
            record.fields.append(AvroField(one["name"], inner, _texts(one.get("aliases", []), "aliases"), "default" in one, one.get("default")))

    @staticmethod
    def _with_logical(made: AvroType, declared: Mapping[str, Any]) -> AvroType:
        logical = declared.get("logicalType")
        if not isinstance(logical, str) or made.kind not in LOGICAL_BASES.get(logical, ()):
            return made
        if logical == "uuid" and made.kind == "fixed" and made.size != 16:
            return made
        if logical == "decimal":
            precision, scale = declared.get("precision"), declared.get("scale", 0)
            if not isinstance(precision, int) or not isinstance(scale, int) or not (0 <= scale <= precision and precision > 0):
                return made
            made.precision, made.scale = precision, scale
        made.logical = logical
        return made


def _texts(declared: Any, what: str) -> tuple[str, ...]:
    if not isinstance(declared, list) or not all(isinstance(text, str) for text in declared):
        raise UnreadableSchema(f"expected a list of names as {what}, found {str(declared)[:80]}")
    return tuple(declared)

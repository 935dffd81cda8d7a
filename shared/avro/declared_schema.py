"""What an application's own schema must be: Avro's rules to the letter, with the field's name and a way out.

A writer's schema is read as the specification says, which passes over a mistaken logical type and says nothing of defaults. In the schema that an
application declares each of these is a mistake of its author, to be seen before the first record; and registries written in Java refuse most of them.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tidemill.shared.avro.json_text import shown
from tidemill.shared.avro.json_values import DAY_UNITS, FIRST_DAY, LAST_DAY, UUID
from tidemill.shared.avro.schema_tree import LOGICAL_BASES, PRIMITIVES, UnreadableSchema

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNNAMED = ("array", "map")
_NAMED = ("record", "error", "enum", "fixed")
_SURROGATE = re.compile("[\ud800-\udfff]")
_RULE = "letters of ASCII, digits and underscores, no digit first"
_UUID_BYTES = 16
_DURATION_BYTES = 12
_MOST_FLOAT = 3.4028235677973366e38
Json = Any  # free-form, as schemas are


def check_declared(text: str) -> None:
    """Refuse a schema (JSON of a record, readable for `schema_tree`) that is not Avro's to the letter; UnreadableSchema names the field."""
    _Declaration().type(json.loads(text), "", "")


class _Declaration:
    """One walk over a schema; named types are known from where they are defined on, as in Avro."""

    def __init__(self) -> None:
        self._named: dict[str, Mapping[str, Json]] = {}
        self._places: dict[str, str] = {}

    def type(self, declared: Json, namespace: str, field: str) -> None:
        """Check a type; `field` is the dotted name that messages use."""
        if isinstance(declared, list):
            self._union(declared, namespace, field)
        elif isinstance(declared, dict):
            kind = declared["type"]
            if isinstance(kind, (dict, list)):
                _refuse(field, f"expected the name of a type as its type, found {json.dumps(kind)[:80]} within one more", "write the inner one alone")
            if kind in _NAMED:
                self._new_named(declared, namespace, field)
            elif kind in _UNNAMED:
                self.type(declared["items" if kind == "array" else "values"], namespace, f"{field}[]")
            _check_logical(declared, field)

    def _union(self, branches: list[Json], namespace: str, field: str) -> None:
        for branch in branches:
            self.type(branch, namespace, field)
        twice = [kind for kind, times in Counter(self._identity(branch, namespace) for branch in branches).items() if times > 1]
        if twice:
            _refuse(field, f"expected each type once in a union, found {twice[0]} twice", "leave one of them out")

    def _identity(self, branch: Json, namespace: str) -> str:
        """What a branch is to a union: the full name of a named type, else its kind, whatever its logical type."""
        if isinstance(branch, str):
            return branch if branch in PRIMITIVES or branch in _UNNAMED else self._full(branch, namespace)
        return _full_name(branch, namespace)[0] if branch["type"] in _NAMED else self._identity(branch["type"], namespace)

    def _full(self, name: str, namespace: str) -> str:
        full = f"{namespace}.{name}" if namespace and "." not in name else name
        return full if full in self._named else name

    def _new_named(self, declared: Mapping[str, Json], namespace: str, field: str) -> None:
        full, inner = _full_name(declared, namespace)
        what = f"the {declared['type']} {full!r}"
        for name in [full, declared.get("namespace") or full]:
            _check_name(field, name, f"a name of {what}", dotted=True)
        if full.rpartition(".")[2] in PRIMITIVES:
            _refuse(field, f"expected a name of {declared['type']} that is no primitive type's, found {full!r}", "rename the type")
        self._named[full] = declared
        for alias in [full, *declared.get("aliases", [])]:
            _check_name(field, alias, f"an alias of {what}", dotted=True)
            place = alias if "." in alias or not inner else f"{inner}.{alias}"
            if self._places.setdefault(place, full) != full:
                _refuse(field, f"expected {place} as name or alias of one type, found it on {self._places[place]} and {full}", "drop one of them")
        if declared["type"] == "enum":
            self._enum(declared, full, field)
        elif declared["type"] == "fixed" and declared["size"] < 1:
            _refuse(field, f"expected a fixed of one byte and more, found {full} of size {declared['size']}", "leave the field out: it says nothing")
        elif declared["type"] in ("record", "error"):
            self._fields(declared, inner, field)

    def _enum(self, declared: Mapping[str, Json], full: str, field: str) -> None:
        for symbol in declared["symbols"]:
            _check_name(field, symbol, f"a symbol of the enum {full}")
        if twice := _twice(declared["symbols"]):
            _refuse(field, f"expected each symbol of the enum {full} once, found {twice} twice", "leave one of them out")
        if "default" in declared and declared["default"] not in declared["symbols"]:
            _refuse(
                field, f"expected the default of the enum {full} among its symbols, found {shown(declared['default'])}", "add it, or take another"
            )

    def _fields(self, record: Mapping[str, Json], namespace: str, prefix: str) -> None:
        fields = record["fields"]
        paths = [f"{prefix}.{one['name']}" if prefix else one["name"] for one in fields]
        for one, path in zip(fields, paths, strict=True):
            for name, what in [(one["name"], "a field's name"), *((alias, "a field's alias") for alias in one.get("aliases", []))]:
                _check_name(path, name, what)
            self.type(one["type"], namespace, path)
            if one.get("logicalType") in LOGICAL_BASES:
                example = json.dumps({"type": LOGICAL_BASES[one["logicalType"]][0], "logicalType": one["logicalType"]})
                _refuse(path, f"expected the logicalType {one['logicalType']} within the type, found it beside", f"write {example} as its type")
            if "default" in one and (problem := self.misfit(one["type"], one["default"], namespace)):
                _refuse(path, f"expected a default that its type can have, found {shown(one['default'])}: {problem}", "correct it, or leave it out")
        owners = Counter(name for one in fields for name in {one["name"], *one.get("aliases", [])})
        if several := [name for name, count in owners.items() if count > 1]:
            place = next(path for one, path in zip(fields, paths, strict=True) if several[0] in one.get("aliases", []))
            _refuse(place, f"expected the alias {several[0]!r} for one field only, found it for two (or as another's name)", "drop one of them")

    def misfit(self, kind: Json, value: Json, namespace: str) -> str:
        """Say why a type cannot have a default; empty when it can. A union can have what one of its types can (Avro 1.12)."""
        if isinstance(kind, list):
            misfits = [self.misfit(branch, value, namespace) for branch in kind]
            return "" if "" in misfits else "; ".join(dict.fromkeys(misfits))
        declared = {"type": kind} if isinstance(kind, str) else kind
        if isinstance(declared["type"], (dict, list)):
            return self.misfit(declared["type"], value, namespace)
        name = declared["type"]
        if name in _NAMED:
            namespace = _full_name(declared, namespace)[1]
        elif name not in PRIMITIVES and name not in _UNNAMED:
            full = self._full(name, namespace)
            return self.misfit(self._named[full], value, full.rpartition(".")[0])
        if name in _UNNAMED:
            return self._misfit_inside(declared, value, namespace)
        if name in ("record", "error"):
            return self._misfit_record(declared, value, namespace)
        expected = _PLAIN[name](value, declared) or _beyond(value, declared)
        return expected and f"expected {expected}"

    def _misfit_inside(self, declared: Mapping[str, Json], value: Json, namespace: str) -> str:
        of, what, inner = (list, "a list", "items") if declared["type"] == "array" else (dict, "an object", "values")
        if not isinstance(value, of):
            return f"expected {what}"
        items: Iterable[Json] = value.values() if isinstance(value, dict) else value
        return next(filter(None, (self.misfit(declared[inner], one, namespace) for one in items)), "")

    def _misfit_record(self, declared: Mapping[str, Json], value: Json, namespace: str) -> str:
        if not isinstance(value, dict):
            return "expected an object"
        if unknown := sorted(value.keys() - {one["name"] for one in declared["fields"]}):
            return f"expected fields of {declared['name']}, found {unknown[0]!r}"
        for one in declared["fields"]:
            if one["name"] not in value and "default" not in one:
                return f"expected a value of {one['name']}"
            if one["name"] in value and (problem := self.misfit(one["type"], value[one["name"]], namespace)):
                return f"{one['name']}: {problem}"
        return ""


def _full_name(declared: Mapping[str, Json], namespace: str) -> tuple[str, str]:
    """Return the full name of a type, and the namespace within it."""
    name = declared["name"]
    if "." in name:
        return name, name.rpartition(".")[0]
    inner = declared["namespace"] if isinstance(declared.get("namespace"), str) else namespace
    return (f"{inner}.{name}" if inner else name), inner


def _check_logical(declared: Mapping[str, Json], field: str) -> None:
    """Refuse a known logical type that would be passed over: the column would be plain bytes, or a plain number."""
    logical, kind = declared.get("logicalType"), declared["type"]
    bases = LOGICAL_BASES.get(logical) if isinstance(logical, str) else None
    if bases is None:
        return
    if kind not in bases:
        _refuse(field, f"expected {logical} on {' or '.join(bases)}, found it on {shown(kind)}", f"declare it on {bases[0]}, or drop it")
    sizes = {"uuid": _UUID_BYTES, "duration": _DURATION_BYTES}
    if kind == "fixed" and declared["size"] != sizes.get(str(logical), declared["size"]):
        _refuse(field, f"expected {logical} on a fixed of {sizes[str(logical)]} bytes, found {declared['size']}", "correct the size")
    if logical == "decimal":
        precision: Json = declared.get("precision")
        scale: Json = declared.get("scale", 0)
        if not _whole(precision) or precision < 1 or not _whole(scale) or not 0 <= scale <= precision:
            given = f"precision {shown(precision)}, scale {shown(scale)}"
            _refuse(field, f"expected a decimal with a precision of 1 and more and a scale from 0 to it, found {given}", "correct them")
        if kind == "fixed" and precision > (most := _digits(declared["size"])):
            given = f"precision {precision} on {declared['size']}"
            _refuse(field, f"expected a decimal of at most {most} digits on a fixed of {declared['size']} bytes, found {given}", "make it wider")


def _digits(size: int) -> int:
    """How many decimal digits always fit so many bytes (two's complement)."""
    return len(str(2 ** (8 * size - 1) - 1)) - 1


def _check_name(field: str, name: Json, what: str, dotted: bool = False) -> None:
    parts = name.split(".") if dotted and isinstance(name, str) else [name]
    if not all(isinstance(part, str) and _NAME.fullmatch(part) for part in parts):
        _refuse(field, f"expected {what} of {_RULE} (Avro's names), found {shown(name)}", "rename it, there and where it is published")


def _refuse(field: str, problem: str, way_out: str) -> None:
    raise UnreadableSchema(f"field {field}: {problem}; {way_out}" if field else f"{problem}; {way_out}")


def _twice(names: Iterable[str]) -> str:
    return next((name for name, times in Counter(names).items() if times > 1), "")


def _whole(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _integer(bits: int) -> Callable[[Json, Mapping[str, Json]], str]:
    return lambda value, _: "" if _whole(value) and -(1 << bits - 1) <= value < 1 << bits - 1 else f"a {bits}-bit integer"


def _number(most: float) -> Callable[[Json, Mapping[str, Json]], str]:
    def check(value: Json, _: Mapping[str, Json]) -> str:
        fits = (_whole(value) or isinstance(value, float)) and abs(value) < most and not (isinstance(value, float) and not math.isfinite(value))
        return "" if fits else "a finite number within its range"

    return check


def _content(value: Json, declared: Mapping[str, Json]) -> str:
    """Bytes, fixed and decimals alike: a default is the text of the code points of its bytes."""
    points = "text of the code points 0 to 255 (its bytes)"
    is_decimal = declared.get("logicalType") == "decimal"
    if not isinstance(value, str) or not all(ord(point) < 256 for point in value):
        return points + (f", for this number {json.dumps(text)}" if is_decimal and (text := _text_of(value, declared)) else "")
    content = value.encode("latin-1")
    if declared["type"] == "fixed" and len(content) != declared["size"]:
        return f"{declared['size']} bytes, not {len(content)}"
    if is_decimal and abs(int.from_bytes(content, "big", signed=True)) >= 10 ** declared["precision"]:
        return f"at most {declared['precision']} digits"
    return ""


def _text_of(value: Json, declared: Mapping[str, Json]) -> str:
    """The default that a number stands for that somebody has written in its place; empty where there is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return ""
    unscaled = round(value * 10 ** declared.get("scale", 0))
    size = declared["size"] if declared["type"] == "fixed" else unscaled.bit_length() // 8 + 1
    return "" if unscaled.bit_length() >= 8 * size else unscaled.to_bytes(size, "big", signed=True).decode("latin-1")


def _beyond(value: Json, declared: Mapping[str, Json]) -> str:
    """What a logical type asks for besides its base type; empty when the value is that."""
    logical = declared.get("logicalType")
    if logical == "date" and not FIRST_DAY <= value <= LAST_DAY:
        return "a day of the years 1 to 9999"
    if logical in DAY_UNITS and not 0 <= value < DAY_UNITS[logical]:
        return f"a time below {DAY_UNITS[logical]}"
    if logical == "uuid" and declared["type"] == "string" and UUID.fullmatch(value) is None:
        return "a uuid such as 123e4567-e89b-12d3-a456-426614174000"
    return ""


_PLAIN: Mapping[str, Callable[[Json, Mapping[str, Json]], str]] = {
    "null": lambda value, _: "" if value is None else "null",
    "boolean": lambda value, _: "" if isinstance(value, bool) else "true or false",
    "int": _integer(32),
    "long": _integer(64),
    "float": _number(_MOST_FLOAT),
    "double": _number(math.inf),
    "string": lambda value, _: "" if isinstance(value, str) and not _SURROGATE.search(value) else "text of Unicode",
    "bytes": _content,
    "fixed": _content,
    "enum": lambda value, declared: "" if value in declared["symbols"] else f"one of {', '.join(declared['symbols'])[:200]}",
}

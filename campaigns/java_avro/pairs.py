"""Pairs of schemas as they come about: a writer's of any types, and a reader's that somebody has made of it."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tidemill.shared.avro.arrow_types import arrow_schema
from tidemill.shared.avro.schema_tree import UnreadableSchema

_PROMOTED = {"int": ("long", "float", "double"), "long": ("float", "double"), "float": ("double",), "string": ("bytes",), "bytes": ("string",)}
_PLAIN = ("int", "long", "float", "double", "string", "bytes", "boolean")
_SYMBOLS = "ABCDE"
_DEPTH = 2


@dataclass(frozen=True, slots=True)
class Pair:
    """Two record schemas (JSON) and rows of the writer's, as fastavro takes them."""

    writer: dict[str, Any]
    reader: dict[str, Any]
    rows: list[dict[str, Any]]


def pairs(seed: int) -> Iterator[Pair]:
    """Return pairs without end; one seed, one sequence."""
    dice = random.Random(seed)
    while True:
        maker = _Maker(dice)
        writer = maker.record(_DEPTH)
        reader = maker.changed_record(json.loads(json.dumps(writer)))
        try:
            arrow_schema(json.dumps(reader))
        except UnreadableSchema:
            continue  # A union of several types has no column, so `check` refuses it in a reader.
        yield Pair(writer, reader, [maker.value(writer) for _ in range(dice.randint(1, 4))])


class _Maker:
    """Draws types, values, and what readers make of types. Named types have names of their own, and keep them."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._names = 0

    def _name(self, letter: str) -> str:
        self._names += 1
        return f"{letter}{self._names}"

    def record(self, depth: int) -> dict[str, Any]:
        fields = [{"name": f"f{i}", "type": self.maybe_union(depth)} for i in range(self._dice.randint(1, 4))]
        return {"type": "record", "name": self._name("R"), "fields": fields}

    def maybe_union(self, depth: int) -> Any:  # Avro JSON is free-form
        one = self.type(depth)
        draw = self._dice.random()
        if draw < 0.25:
            return ["null", one] if draw < 0.15 else [one, "null"]
        if draw < 0.3 and isinstance(one, str):
            return self._dice.sample(["null", "string", "long", "double", "boolean"], 3)
        return one

    def type(self, depth: int) -> Any:
        kind = self._dice.choice([*_PLAIN, *_PLAIN, "enum", "fixed", *(("array", "map", "record") if depth else ())])
        if kind == "enum":
            avro_type: dict[str, Any] = {"type": "enum", "name": self._name("E"), "symbols": list(_SYMBOLS[: self._dice.randint(1, 4)])}
            return avro_type | ({"default": "A"} if self._dice.random() < 0.3 else {})
        if kind == "fixed":
            return {"type": "fixed", "name": self._name("F"), "size": self._dice.randint(1, 4)}
        if kind in ("array", "map"):
            return {"type": kind, "items" if kind == "array" else "values": self.maybe_union(depth - 1)}
        return self.record(depth - 1) if kind == "record" else kind

    def value(self, kind: Any) -> Any:
        dice = self._dice
        if isinstance(kind, list):
            branch = dice.choice(kind)
            return self.value(branch)
        name = kind if isinstance(kind, str) else kind["type"]
        plain: dict[str, Callable[[], Any]] = {
            "null": lambda: None,
            "boolean": lambda: dice.random() < 0.5,
            "int": lambda: dice.choice([0, -1, 7, 2**31 - 1, -(2**31), dice.randint(-1_000, 1_000)]),
            "long": lambda: dice.choice([0, 2**53 + 1, 2**63 - 1, -(2**63), dice.randint(-1_000, 1_000)]),
            "float": lambda: dice.choice([0.0, -0.5, 1.5, 3.0e38]),
            "double": lambda: dice.choice([0.0, -0.1, 1e300, 5e-324, dice.random()]),
            "string": lambda: dice.choice(["", "a", "é\u4e2d", "\U0001f600", "x" * 40]),
            "bytes": lambda: dice.choice([b"", b"ab", b"\xff\xfe", b"\xc3\xa9", bytes(30)]),
        }
        if name in plain:
            return plain[name]()
        if name == "enum":
            return dice.choice(kind["symbols"])
        if name == "fixed":
            return dice.randbytes(kind["size"])
        if name == "array":
            return [self.value(kind["items"]) for _ in range(dice.randint(0, 3))]
        if name == "map":
            return {f"k{i}": self.value(kind["values"]) for i in range(dice.randint(0, 2))}
        return {field["name"]: self.value(field["type"]) for field in kind["fields"]}

    def changed_record(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return what a reader makes of a record: each field kept, changed, renamed with an alias, dropped; new ones with or without a default."""
        dice, fields = self._dice, []
        for field in record["fields"]:
            draw = dice.random()
            if draw < 0.12:
                continue
            changed = {**field, "type": self.changed(field["type"])}
            if draw < 0.22:
                changed |= {"name": f"{field['name']}n", "aliases": [field["name"]] if dice.random() < 0.8 else ["other"]}
            if dice.random() < 0.15 and (default := self._default(changed["type"])) is not _NO_DEFAULT:
                changed["default"] = default
            fields.append(changed)
        if dice.random() < 0.25 or not fields:
            kind = self.maybe_union(1)
            fresh = {"name": self._name("new"), "type": kind if not (isinstance(kind, list) and len(kind) > 2) else "long"}
            default = self._default(fresh["type"])
            fields.append(fresh | ({"default": default} if default is not _NO_DEFAULT and dice.random() < 0.85 else {}))
        dice.shuffle(fields)
        return {**record, "fields": fields}

    def changed(self, kind: Any) -> Any:
        dice = self._dice
        if isinstance(kind, list):
            others = [branch for branch in kind if branch != "null"]
            if len(others) != 1 or dice.random() < 0.2:
                # Readers have null and one type: unions of several have no column.
                one = self.changed(dice.choice(others))
                return one if isinstance(one, list) or dice.random() < 0.3 else ["null", one]
            one = self.changed(others[0])
            return one if isinstance(one, list) else ["null", one] if dice.random() < 0.7 else [one, "null"]
        draw = dice.random()
        if draw < 0.08:
            return self.type(1)
        if draw < 0.25:
            one = self.changed(kind)
            return one if isinstance(one, list) else ["null", one]
        if isinstance(kind, str):
            return dice.choice(_PROMOTED[kind]) if kind in _PROMOTED and dice.random() < 0.4 else kind
        name = kind["type"]
        if name == "enum" and dice.random() < 0.6:
            symbols = dice.sample(_SYMBOLS, dice.randint(1, 4))
            made = {**{key: value for key, value in kind.items() if key != "default"}, "symbols": symbols}
            return made | ({"default": symbols[0]} if dice.random() < 0.5 else {})
        if name == "fixed" and dice.random() < 0.2:
            return {**kind, "size": dice.randint(1, 4)}
        if name in ("enum", "fixed") and dice.random() < 0.2:
            return {**kind, "name": f"{kind['name']}x", "aliases": [kind["name"]] if dice.random() < 0.7 else []}
        if name in ("array", "map"):
            part = "items" if name == "array" else "values"
            return {**kind, part: self.changed(kind[part])}
        return self.changed_record(kind) if name == "record" else kind

    def _default(self, kind: Any) -> Any:
        """Return a default in JSON, of a union one of its first branch; `_NO_DEFAULT` where none is made."""
        first = kind[0] if isinstance(kind, list) else kind
        name = first if isinstance(first, str) else first["type"]
        plain = {"null": None, "boolean": True, "int": 5, "long": -9, "float": 0.5, "double": 0.25, "string": "dé", "bytes": "b\u00ff"}
        if name in plain:
            return plain[name]
        if name == "enum":
            return first["symbols"][-1]
        if name == "fixed":
            return "\u00fe" * first["size"]
        return [] if name == "array" else {} if name == "map" else _NO_DEFAULT


_NO_DEFAULT = object()

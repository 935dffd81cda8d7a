"""YAML files as plain data, with the line of everything in them.

libyaml parses (an application of 500 models in 500 files would otherwise take seconds in every process); what a plain scalar means follows the
core schema of YAML 1.2, where ``no`` is a word and not a truth value.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.regular_file import regular_file

_SCALARS: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (re.compile(r"~|null|Null|NULL|"), lambda _: None),
    (re.compile(r"true|True|TRUE|false|False|FALSE"), lambda text: text.lower() == "true"),
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"0o[0-7]+"), lambda text: int(text[2:], 8)),
    (re.compile(r"0x[0-9a-fA-F]+"), lambda text: int(text[2:], 16)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
    (re.compile(r"[-+]?\.(inf|Inf|INF)"), lambda text: float(text.replace(".", ""))),
    (re.compile(r"\.(nan|NaN|NAN)"), lambda _: float("nan")),
)
_TAG = "tag:yaml.org,2002:"
_MOST_VALUES, _MOST_DIGITS, _DEEPEST = 1_000_000, 400, 100
"""Far above any application: 500 models have some 20,000 values. A few aliases of aliases would be billions of them."""


@dataclass(frozen=True, slots=True)
class LocatedYaml:
    """The contents of one file: a mapping, and where its parts stand."""

    file: Path
    data: dict[Any, Any]
    node: yaml.MappingNode

    def line(self, path: Sequence[str | int]) -> int:
        """Return the line (from 1) of the deepest part of `path` that exists."""
        line, node = 1, self.node
        for key in path:
            child = _child(node, key)
            if child is None:
                break
            line, node = child
        return line


def load_yaml(file: Path) -> LocatedYaml:
    """Read a file whose contents must be a mapping; raises ApplicationError."""
    try:
        text = regular_file(file).read_text(encoding="utf-8")
        _refuse_deep(file, text)
        node = yaml.compose(text, Loader=yaml.CBaseLoader)  # nodes only, nothing is constructed
    except yaml.MarkedYAMLError as error:
        raise ApplicationError(file, error.problem_mark.line + 1 if error.problem_mark else 1, "YAML", str(error.problem)) from error
    except yaml.YAMLError as error:
        raise ApplicationError(file, 1, "YAML", str(error).splitlines()[0]) from error
    except UnicodeDecodeError as error:
        raise ApplicationError(file, 1, "UTF-8 text", str(error)) from error
    except OSError as error:
        raise ApplicationError(file, 1, "a file that can be read", str(error.strerror)) from error
    if not isinstance(node, yaml.MappingNode):
        came = "nothing" if node is None else "a list" if isinstance(node, yaml.SequenceNode) else repr(node.value)
        raise ApplicationError(file, 1, "a mapping", came)
    return LocatedYaml(file, _value(file, node, (), count(1)), node)


def _refuse_deep(file: Path, text: str) -> None:
    """Refuse a file that is nested too deep before it is composed: libyaml composes by recursion, and the process would die of it."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CBaseLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                raise ApplicationError(file, event.start_mark.line + 1, f"at most {_DEEPEST} lists and mappings within each other", "more")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _value(file: Path, node: yaml.Node, inside: tuple[yaml.Node, ...], values: Iterator[int]) -> Any:
    if next(values) > _MOST_VALUES:
        raise ApplicationError(file, node.start_mark.line + 1, f"at most {_MOST_VALUES:,} values, aliases written out", "more")
    if len(inside) > _DEEPEST:
        raise ApplicationError(file, node.start_mark.line + 1, f"at most {_DEEPEST} lists and mappings within each other", "more")
    if any(node is outer for outer in inside):
        raise ApplicationError(file, node.start_mark.line + 1, "a value that does not contain itself", "an alias to what it stands in")
    if isinstance(node, yaml.ScalarNode):
        return _scalar(file, node)
    if isinstance(node, yaml.SequenceNode):
        return [_value(file, item, (*inside, node), values) for item in node.value]
    mapping: dict[Any, Any] = {}
    merged: dict[Any, Any] = {}
    for key, item in node.value:
        name = _value(file, key, (), values)
        if name == "<<":
            for part in item.value if isinstance(item, yaml.SequenceNode) else [item]:
                if not isinstance(part, yaml.MappingNode):
                    raise ApplicationError(file, key.start_mark.line + 1, "a mapping after <<", repr(part.value))
                merged = {**_value(file, part, (*inside, node), values), **merged}
            continue
        if isinstance(name, (list, dict)) or name in mapping:
            came = f"{name!r} again" if not isinstance(name, (list, dict)) else repr(name)
            raise ApplicationError(file, key.start_mark.line + 1, "each key once, as a word or a number", came)
        mapping[name] = _value(file, item, (*inside, node), values)
    return {**merged, **mapping}


def _scalar(file: Path, node: yaml.ScalarNode) -> Any:
    text: str = node.value
    if node.tag not in (f"{_TAG}str", "!", "?"):
        raise ApplicationError(file, node.start_mark.line + 1, "a value without a tag", f"{node.tag.removeprefix(_TAG)} {text!r}")
    if node.style:  # quoted, or a block
        return text
    for pattern, meaning in _SCALARS:
        if len(text) <= _MOST_DIGITS and pattern.fullmatch(text):
            return meaning(text)
    return text


def _child(node: yaml.Node, key: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for name, item in node.value:
            if name.value == str(key):
                return name.start_mark.line + 1, item
        for name, item in node.value:
            if name.value == "<<":
                for part in item.value if isinstance(item, yaml.SequenceNode) else [item]:
                    if (child := _child(part, key)) is not None:
                        return child
    elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key].start_mark.line + 1, node.value[key]
    return None

"""Which keys of a part of the application say something else."""

import json
from collections.abc import Iterator
from typing import Any

_LONGEST = 80


def changed_keys(before: Any, after: Any) -> list[str]:  # JSON of any shape
    """Return a line for each key whose value differs, with both values.

    >>> changed_keys({"gate": {"alpha": 0.05, "span": 1}}, {"gate": {"alpha": 0.1, "span": 1}, "slices": ["a"]})
    ['gate.alpha: 0.05 -> 0.1', 'slices: nothing -> ["a"]']
    >>> changed_keys({"windows": [{"sliding": 1, "all": False}]}, {"windows": [{"sliding": 1, "all": False}, {"sliding": 2, "all": False}]})
    ['windows: + {"sliding": 2}']
    """
    one, other = dict(_leaves(before, "")), dict(_leaves(after, ""))
    return [
        _line(name, one.get(name, _NOTHING), other.get(name, _NOTHING))
        for name in dict.fromkeys((*one, *other))
        if one.get(name, _NOTHING) != other.get(name, _NOTHING)
    ]


_NOTHING = object()


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else str(name))
    elif value not in ({}, [], None):
        yield path, value


def _line(name: str, before: Any, after: Any) -> str:
    if isinstance(before, list) and isinstance(after, list) and set(map(_text, before)) != set(map(_text, after)):
        gone = [f"- {_text(item)}" for item in before if item not in after]
        come = [f"+ {_text(item)}" for item in after if item not in before]
        return f"{name}: {', '.join([*gone, *come])}"
    return f"{name}: {_text(before)} -> {_text(after)}"


def _text(value: Any) -> str:
    if value is _NOTHING:
        return "nothing"
    if isinstance(value, dict):
        # What an item does not say is left out: a window has seven keys, and one of them counts.
        value = {key: inner for key, inner in value.items() if inner not in (None, False)}
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."

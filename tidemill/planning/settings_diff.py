"""Which keys of a part of the application say something else."""

from collections.abc import Iterator
from typing import Any

_LONGEST = 80


def changed_keys(before: Any, after: Any) -> list[str]:  # noqa: ANN401, RUF100 - JSON of any shape
    """Return a line for each key whose value differs, with both values.

    >>> changed_keys({"gate": {"alpha": 0.05, "span": 1}}, {"gate": {"alpha": 0.1, "span": 1}, "slices": ["a"]})
    ['gate.alpha: 0.05 -> 0.1', 'slices: nothing -> ["a"]']
    """
    one, other = dict(_leaves(before, "")), dict(_leaves(after, ""))
    return [
        f"{name}: {_text(one, name)} -> {_text(other, name)}"
        for name in dict.fromkeys((*one, *other))
        if one.get(name, _NOTHING) != other.get(name, _NOTHING)
    ]


_NOTHING = object()


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401, RUF100
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else str(name))
    elif value not in ({}, [], None):
        yield path, value


def _text(values: dict[str, Any], name: str) -> str:
    import json

    if name not in values:
        return "nothing"
    text = values[name] if isinstance(values[name], str) else json.dumps(values[name])
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."

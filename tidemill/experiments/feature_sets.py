"""Sets of features that are compared: by patterns, or, where nobody wrote any, what is left without each view."""

import fnmatch
from collections.abc import Mapping, Sequence

ALL = "all features"


def chosen(features: Sequence[str], patterns: Sequence[str]) -> tuple[str, ...]:
    """Return the features that patterns name, in the order of the features; one that begins with ``-`` takes away.

    As in the application file a view's name with ``.*`` names its columns.

    >>> chosen(("hour", "weather__temp", "route__mean"), ("*", "-weather.*"))
    ('hour', 'route__mean')
    >>> chosen(("hour", "weather__temp", "route__mean"), ("hour", "route.*"))
    ('hour', 'route__mean')

    Raises
    ------
    ValueError
        A pattern names nothing, or nothing is left.
    """
    taken: set[str] = set()
    for pattern in patterns:
        plain = pattern.removeprefix("-").replace(".", "__")
        named = set(fnmatch.filter(features, plain))
        if not named:
            raise ValueError(f"a feature of the model, or a pattern that names some ({', '.join(features[:8])}, ...), not {pattern!r}")
        taken = taken - named if pattern.startswith("-") else taken | named
    if not taken:
        raise ValueError(f"a set of at least one feature; {', '.join(patterns)} leaves none")
    return tuple(name for name in features if name in taken)


def usual_sets(features: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return all features, all without those of each view or reference stream, and the request's own columns alone.

    >>> list(usual_sets(("hour", "weather__temp", "route__mean")))
    ['all features', 'without weather', 'without route', 'request only']
    """
    groups = list(dict.fromkeys(name.partition("__")[0] for name in features if "__" in name))
    sets: Mapping[str, tuple[str, ...]] = {
        ALL: tuple(features),
        **{f"without {group}": tuple(name for name in features if not name.startswith(f"{group}__")) for group in groups},
        "request only": tuple(name for name in features if "__" not in name),
    }
    by_name: dict[str, tuple[str, ...]] = {}
    for name, columns in sets.items():
        if columns and columns not in by_name.values():
            by_name[name] = columns
    return by_name

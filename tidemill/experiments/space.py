"""The configurations of an experiment: drawn from the families' ranges, or written down as a grid."""

import difflib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tidemill.experiments.configuration import Configuration
from tidemill.experiments.feature_sets import ALL, chosen, usual_sets
from tidemill.experiments.hyperparameters import drawn, middles
from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.families import FAMILIES, families_of, is_own, supports
from tidemill.shared.application.located_yaml import LocatedYaml, load_yaml
from tidemill.shared.application.plan import ModelPlan

_ATTEMPTS = 50
_KEYS = ("families", "windows_days", "feature_sets")
MOST = 5_000


def draw(model: ModelPlan, trials: int, seed: int) -> list[Configuration]:
    """Draw different configurations: first each family at the middle of its ranges with all features, then at random.

    Every second one has all features; the others lack a view, or have the request's columns alone. The same seed gives the same ones, and more trials
    begin with the fewer. Where there are not so many different ones, there are fewer.
    """
    training = model.settings.training
    families = families_of(training.families, model.settings.kind)
    sets, generator = usual_sets(model.features), np.random.default_rng(seed)
    names = list(sets)
    by_name: dict[str, Configuration] = {}

    def add(one: Configuration) -> None:
        by_name.setdefault(one.identity, one)

    for family in families:
        add(Configuration(family, training.windows_days[0], ALL, sets[ALL], middles(family)))
    for _ in range(trials * _ATTEMPTS):
        if len(by_name) >= trials:
            break
        family, window = (str(generator.choice(families)), int(generator.choice(training.windows_days)))
        name = ALL if generator.random() < 0.5 else names[int(generator.integers(len(names)))]
        add(Configuration(family, window, name, sets[name], drawn(family, generator)))
    return list(by_name.values())[:trials]


def read_grid(file: Path, model: ModelPlan) -> list[Configuration]:
    """Read a grid: every combination of its values is a configuration.

    ::

        families:                       # by name; what is not named stands at the middle of the search's range
          lightgbm: {trees: [60, 120], learning_rate: [0.05, 0.1]}
          logistic_regression: {strength: 0.1}
        windows_days: [0, 60]           # without it: the model's own
        feature_sets:                   # without it: all features
          all: ["*"]
          no weather: ["*", "-weather.*"]

    Raises
    ------
    ApplicationError
        The file, with line, what was expected and what came.
    """
    if not file.is_file():
        raise ApplicationError(file, 1, "a grid file", "none")
    source = load_yaml(file)
    for key in source.data:
        if key not in _KEYS:
            raise _wrong(source, [key], f"one of {', '.join(_KEYS)}", repr(key))
    windows, sets = _windows(source, model), _feature_sets(source, model)
    configurations: dict[str, Configuration] = {}
    for family, values in _families(source, model):
        names = list(values)
        for window, (name, columns), settings in itertools.product(windows, sets.items(), itertools.product(*values.values())):
            one = Configuration(family, window, name, columns, dict(zip(names, settings, strict=True)))
            configurations.setdefault(one.identity, one)
            if len(configurations) > MOST:
                raise _wrong(source, ["families"], f"a grid of {MOST} configurations or fewer", "more")
    return list(configurations.values())


def _families(source: LocatedYaml, model: ModelPlan) -> Iterator[tuple[str, Mapping[str, list[Any]]]]:
    kind, given = model.settings.kind, source.data.get("families")
    if not isinstance(given, dict) or not given:
        raise _wrong(source, ["families"], "families by name, each with values by hyperparameter", _came(given))
    for family, values in given.items():
        if not (isinstance(family, str) and (family in FAMILIES or is_own(family))) or not supports(family, kind):
            able = ", ".join(name for name in FAMILIES if supports(name, kind))
            raise _wrong(source, ["families", family], f"a family that learns a model of kind {kind} ({able}), or module:factory", repr(family))
        if values is not None and not isinstance(values, dict):
            raise _wrong(source, ["families", family], "values by hyperparameter", _came(values))
        known = middles(family)
        for name, value in (values or {}).items():
            if name not in known:
                near = difflib.get_close_matches(str(name), known, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise _wrong(
                    source, ["families", family, name], f"a hyperparameter of {family} ({', '.join(known) or 'it has none'})", f"{name}{hint}"
                )
            for one in _listed(value):
                if type(one) is not type(known[name]) and not (isinstance(known[name], float) and type(one) is int):
                    raise _wrong(source, ["families", family, name], f"{type(known[name]).__name__} values", repr(one))
        yield family, {name: _alike(values[name], middle) if values and name in values else [middle] for name, middle in known.items()}


def _alike(values: Any, middle: Any) -> list[Any]:  # of any type
    return [float(one) if isinstance(middle, float) else one for one in _listed(values)]


def _windows(source: LocatedYaml, model: ModelPlan) -> Sequence[int]:
    windows = _listed(source.data.get("windows_days", list(model.settings.training.windows_days)))
    for one in windows:
        if type(one) is not int or one < 0:
            raise _wrong(source, ["windows_days"], "days of history, 0 for all", repr(one))
    return windows


def _feature_sets(source: LocatedYaml, model: ModelPlan) -> dict[str, tuple[str, ...]]:
    given = source.data.get("feature_sets", {ALL: ["*"]})
    if not isinstance(given, dict) or not given:
        raise _wrong(source, ["feature_sets"], "patterns by name of the set", _came(given))
    sets = {}
    for name, patterns in given.items():
        try:
            sets[str(name)] = chosen(model.features, [str(pattern) for pattern in _listed(patterns)])
        except ValueError as problem:
            raise _wrong(source, ["feature_sets", name], str(problem), f"{patterns}") from problem
    return sets


def _listed(value: Any) -> list[Any]:  # whatever stands in the file
    return value if isinstance(value, list) else [value]


def _came(value: object) -> str:
    return "nothing" if value is None or value == {} else type(value).__name__


def _wrong(source: LocatedYaml, path: Sequence[Any], expected: str, came: str) -> ApplicationError:
    return ApplicationError(source.file, source.line(path), expected, came)

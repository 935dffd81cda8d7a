"""Which detectors there are, by name, and what can be set of each: read with the application file, without any of them being imported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

KSWIN = (
    "kswin is not offered: river's makes a Kolmogorov-Smirnov test for every label, measured 210 microseconds each (adwin: 0.25), at a"
    " significance that rings by chance after some hundred of them; adwin sees the same changes of a mean"
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number that can be set, its default, and its range with both ends."""

    default: float
    least: float
    most: float
    whole: bool = False


@dataclass(frozen=True, slots=True)
class DetectorEntry:
    """What is known of a detector before it is made.

    Attributes
    ----------
    bits
        Whether it takes right and wrong (0 and 1) and nothing else.
    """

    bits: bool
    parameters: Mapping[str, Parameter]


@dataclass(frozen=True, slots=True)
class DetectorChoice:
    """A detector as an application asks for it; what it does not set has its default."""

    name: str
    parameters: Mapping[str, float] = field(default_factory=dict)

    @property
    def bits(self) -> bool:
        """Whether it takes right and wrong (0 and 1) and nothing else."""
        return CATALOGUE[self.name].bits


_CONFIDENCE = {"drift_confidence": Parameter(0.001, 1e-12, 0.5), "warning_confidence": Parameter(0.005, 1e-12, 0.5)}
CATALOGUE: Mapping[str, DetectorEntry] = {
    "cusum_mixture": DetectorEntry(
        True, {"run_length": Parameter(2_000_000, 1_000, 1e12), "baseline": Parameter(5_000, 500, 10_000_000, whole=True)}
    ),
    "adwin": DetectorEntry(False, {"delta": Parameter(0.002, 1e-12, 0.5)}),
    "page_hinkley": DetectorEntry(
        False,
        {"delta": Parameter(0.005, 0, 1), "threshold": Parameter(25.0, 0.1, 1e6), "min_instances": Parameter(30, 1, 1_000_000, whole=True)},
    ),
    "ddm": DetectorEntry(
        True,
        {
            "warm_start": Parameter(30, 1, 1_000_000, whole=True),
            "drift_threshold": Parameter(3.0, 0.1, 100),
            "warning_threshold": Parameter(2.0, 0, 100),
        },
    ),
    "eddm": DetectorEntry(
        True, {"warm_start": Parameter(30, 1, 1_000_000, whole=True), "alpha": Parameter(0.95, 0, 1), "beta": Parameter(0.9, 0, 1)}
    ),
    "hddm_a": DetectorEntry(True, _CONFIDENCE),
    "hddm_w": DetectorEntry(True, {**_CONFIDENCE, "lambda_val": Parameter(0.05, 1e-6, 1)}),
}
DEFAULT = ("cusum_mixture", "adwin", "page_hinkley")


def read_choice(given: str | Mapping[str, Any]) -> DetectorChoice:
    """Read one entry of an application's `detectors`: a name, or a name with parameters.

    Raises
    ------
    ValueError
        There is no such detector or parameter, or a value is outside of its range; the message names what there is.

    Examples
    --------
    >>> read_choice({"adwin": {"delta": 0.001}})
    DetectorChoice(name='adwin', parameters={'delta': 0.001})
    """
    if isinstance(given, str):
        given = {given: {}}
    if len(given) != 1:
        raise ValueError(f"expected a detector's name, or one name with its parameters ({{adwin: {{delta: 0.001}}}}), found {dict(given)!r}")
    name, settings = next(iter(given.items()))
    if name == "kswin":
        raise ValueError(KSWIN)
    if name not in CATALOGUE:
        raise ValueError(f"expected one of the detectors {', '.join(CATALOGUE)}, found {name!r}{_nearest(name, CATALOGUE)}")
    settings = {} if settings is None else settings
    if not isinstance(settings, Mapping):
        raise ValueError(f"{name}: expected parameters by name, found {settings!r}")
    for key, value in settings.items():
        _check(name, str(key), value)
    if name == "eddm" and settings.get("alpha", 0.95) < settings.get("beta", 0.9):
        raise ValueError("eddm: expected alpha (where it warns) to be at least beta (where it detects)")
    return DetectorChoice(name, {str(key): value for key, value in settings.items()})


def read_choices(given: Sequence[str | Mapping[str, Any]]) -> tuple[DetectorChoice, ...]:
    """Read an application's list.

    Raises
    ------
    ValueError
        As `read_choice`, or a detector is listed twice.
    """
    choices = tuple(read_choice(one) for one in given)
    names = [one.name for one in choices]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"expected every detector once, found {twice} {names.count(twice)} times")
    return choices


def _check(name: str, key: str, value: Any) -> None:  # whatever stands in the file
    known = CATALOGUE[name].parameters
    if key not in known:
        raise ValueError(f"{name}: expected one of its parameters {', '.join(known)}, found {key!r}{_nearest(key, known)}")
    parameter = known[key]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not parameter.least <= value <= parameter.most or (parameter.whole and int(value) != value):
        kind = "a whole number" if parameter.whole else "a number"
        raise ValueError(
            f"{name}.{key}: expected {kind} from {parameter.least:g} to {parameter.most:g} (default {parameter.default:g}), found {value!r}"
        )


def _nearest(name: str, known: Mapping[str, object]) -> str:
    plain = name.lower().replace("-", "_").replace(" ", "_")
    close = [plain] if plain in known else get_close_matches(plain, known, 2, 0.6)
    return f"; did you mean {' or '.join(close)}?" if close else ""

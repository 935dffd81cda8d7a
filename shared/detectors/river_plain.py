"""River's detectors that are written in Python: their state is a few numbers."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

from tidemill.shared.detectors.detector import Change, Values, checked
from tidemill.shared.detectors.river_drift import BinaryDriftAndWarningDetector, DriftDetector, binary, drift

_RECENT = 50
River = DriftDetector | BinaryDriftAndWarningDetector
_SAMPLE = ("_is_init", "_ibc", "_ewma._ewmean")
_MEAN = ("n", "_mean")
_FLAGS = ("_drift_detected", "_warning_detected")


def _paths(parts: Sequence[str], fields: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{part}.{field}" for part in parts for field in fields)


_MADE: Mapping[str, tuple[Callable[..., River], Mapping[str, Any], tuple[str, ...]]] = {
    "page_hinkley": (
        drift.PageHinkley,
        # River forgets its sum by default, which then moves about one level and in the end, by chance, far enough from its least to ring.
        {"mode": "up", "alpha": 1.0},
        ("_drift_detected", "_sum_increase", "_sum_decrease", "_min_increase", "_max_decrease", *_paths(["_x_mean"], _MEAN)),
    ),
    "ddm": (binary.DDM, {}, (*_FLAGS, "_p_min", "_s_min", "_ps_min", *_paths(["_p"], _MEAN))),
    "eddm": (
        binary.EDDM,
        {},
        (*_FLAGS, "_n", "_last_error", "_n_errors", "_p2s_prime_max", "_error_distances._S", *_paths(["_error_distances.mean"], _MEAN)),
    ),
    "hddm_a": (binary.HDDMA, {}, (*_FLAGS, *_paths(["_x_min", "_x_max", "_z"], _MEAN))),
    "hddm_w": (
        binary.HDDMW,
        {},
        (*_FLAGS, "_incr_cutpoint", "_decr_cutpoint", *_paths(["_total", "_s1_decr", "_s1_incr", "_s2_decr", "_s2_incr"], _SAMPLE)),
    ),
}


class RiverPlain:
    """Page-Hinkley, DDM, EDDM, HDDM_A or HDDM_W, for a rise of the mean, as river implements them.

    After a change river starts anew with the next value. A state is the detector's own numbers by name; a river that keeps others is found by
    `check_river`.

    Parameters
    ----------
    name
        One of these.
    bits
        Whether it takes 0 and 1 only.
    parameters
        River's own, by river's names.

    Examples
    --------
    >>> detector = RiverPlain("hddm_a", bits=True)
    >>> [(change.row, change.width_before) for change in detector.update([0.0, 0.0, 0.0, 1.0] * 100 + [1.0] * 40)]
    [(405, 406)]
    """

    def __init__(self, name: str, bits: bool, parameters: Mapping[str, float] | None = None) -> None:
        self.name, self.bits = name, bits
        make, fixed, self._fields = _MADE[name]
        self._make: Callable[[], River] = lambda: make(**fixed, **(parameters or {}))
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._river = self._make()
        self._begin()

    def update(self, values: Values, expected: Values | None = None) -> list[Change]:
        """Absorb values in order and report the rises."""
        changes: list[Change] = []
        for row, value in enumerate(checked(self.name, values, self.bits).tolist()):
            self._river.update(value)
            self._count += 1
            self._total += value
            self._recent.append(value)
            if self._river.drift_detected:
                after = len(self._recent)
                changes.append(Change(row, self._total / self._count, self._count, sum(self._recent) / after, after))
                self._begin()
        return changes

    def snapshot(self) -> dict[str, Any]:
        """State as plain numbers; the compiled mean of HDDM_W is its bytes, in hexadecimal."""
        fields = {path: _plain(reduce(getattr, path.split("."), self._river)) for path in self._fields}
        return {"count": self._count, "total": self._total, "recent": list(self._recent), **fields}

    def load(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot.

        Raises
        ------
        ValueError
            It is no state of this detector.
        """
        expected = {"count", "total", "recent", *self._fields}
        if set(state) != expected:
            raise ValueError(f"expected a state of river's {self.name} with {', '.join(sorted(expected))}, found {', '.join(sorted(state))}")
        self.reset()
        self._count, self._total = state["count"], state["total"]
        self._recent.extend(state["recent"])
        for path in self._fields:
            *owners, field = path.split(".")
            owner = reduce(getattr, owners, self._river)
            if isinstance(state[path], str):
                getattr(owner, field).__setstate__(bytes.fromhex(state[path]))
            else:
                setattr(owner, field, state[path])

    def _begin(self) -> None:
        self._count, self._total = 0, 0.0
        self._recent: deque[float] = deque(maxlen=_RECENT)


def _plain(value: Any) -> Any:  # a number, a truth value, None, or river's compiled mean
    return value.__getstate__().hex() if hasattr(value, "update") else value

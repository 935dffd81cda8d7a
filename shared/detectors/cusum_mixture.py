"""A mixture of CUSUMs on errors: each asks whether errors are more frequent by one amount, and they answer together."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tidemill.shared.detectors.detector import Change, Values, checked

Float64 = NDArray[np.float64]
EFFECTS = (0.03, 0.05, 0.08, 0.12, 0.20)
SURE_BASELINE = 20_000
_STRATA = np.array([0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.75])
_MIDDLES = np.concatenate([[0.0025], (_STRATA[1:] + _STRATA[:-1]) / 2, [0.85]])
_PRIOR = 20.0
_BLOCK = 500
_HELD = 10
_LIMITS = (0.002, 0.998)
_OVERSHOOT = 1.166
_MARGIN = 2.0


@njit(cache=True, nogil=True)
def _run(bits, strata, ratios, bounds, sums, runs):  # pragma: no cover
    """Add labels to the sums until one crosses its bound: (row, which sum), or (-1, -1)."""
    for row in range(bits.size):
        bit = bits[row]
        for k in range(bounds.size):
            total = sums[k] + ratios[strata[row], k, bit]
            if total <= 0.0:
                sums[k] = 0.0
                runs[k, 0] = 0.0
                runs[k, 1] = 0.0
                continue
            sums[k] = total
            runs[k, 0] += 1.0
            runs[k, 1] += bit
            if total > bounds[k]:
                return row, k
    return -1, -1


class CusumMixture:
    """CUSUMs of likelihood ratios on 0/1 errors, one for each size of a rise: .03, .05, .08, .12, .20.

    What is usual is learned: the rate of errors among rows of about the same expected rate (what the model's own score promises; one stratum where
    nothing is expected). A base rate that moves, with scores that follow it, is thereby no change. A block of labels is learned from once no sum has
    stood above half its bound for ten blocks, so a change does not teach its own excuse. Below 20,000 labels the usual
    rate is an upper confidence bound: an estimate that came out low would ring by itself (5,000 labels gave up to 38 false alarms per million).

    Each sum's bound is Siegmund's for a mean of `run_length` labels between two false alarms of all of them together.

    Parameters
    ----------
    run_length
        Mean number of labels between two false alarms.
    baseline
        Labels that are learned before the first is judged.

    References
    ----------
    Page: Continuous inspection schemes. Biometrika 41 (1954). Siegmund: Sequential analysis. Springer 1985.

    Examples
    --------
    >>> generator = np.random.default_rng(1)
    >>> errors = np.concatenate([generator.random(20_000) < 0.2, generator.random(1_000) < 0.4]).astype(float)
    >>> [change.row for change in CusumMixture().update(errors.tolist())]
    [20193]
    """

    name = "cusum_mixture"
    bits = True

    def __init__(self, run_length: float = 2_000_000, baseline: int = 5_000) -> None:
        self.run_length, self.baseline = run_length, baseline
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        strata = len(_STRATA) + 1
        # Labels and errors by stratum: learned, and by block that is not learned yet.
        self._learned = np.zeros((strata, 2))
        self._blocks: list[Float64] = [np.zeros((strata, 2))]
        self._seen = 0
        self._sums, self._runs = np.zeros(len(EFFECTS)), np.zeros((len(EFFECTS), 2))
        self._judge()

    def update(self, values: Values, expected: Values | None = None) -> list[Change]:
        """Absorb errors in order (0 or 1), with the expected rate of each, and report the changes."""
        bits = checked(self.name, values, bits=True).astype(np.int64)
        promised = np.zeros(bits.size) if expected is None else checked(f"{self.name}, expected rates", expected, bits=False)
        strata = np.searchsorted(_STRATA, promised)
        changes, begin = [], 0
        while begin < bits.size:
            part = slice(begin, min(bits.size, begin + _BLOCK - self._seen % _BLOCK))
            crossed, which = -1, -1
            if self._bounds is not None:
                crossed, which = _run(bits[part], strata[part], self._ratios, self._bounds, self._sums, self._runs)
            if crossed >= 0:
                learned, (width, errors) = self._learned.sum(axis=0), self._runs[which]
                changes.append(Change(begin + crossed, learned[1] / learned[0], int(learned[0]), errors / width, int(width)))
                self.reset()
                begin += crossed + 1
                continue
            for column, weights in enumerate((None, bits[part])):
                self._blocks[-1][:, column] += np.bincount(strata[part], weights, minlength=len(self._learned))
            self._seen += part.stop - begin
            begin = part.stop
            if self._seen % _BLOCK == 0:
                self._settle()
        return changes

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists and numbers."""
        blocks = [block.tolist() for block in self._blocks]
        plain = {"seen": self._seen, "sums": self._sums.tolist(), "runs": self._runs.tolist()}
        return {**plain, "learned": self._learned.tolist(), "blocks": blocks}

    def load(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot.

        Raises
        ------
        ValueError
            It is no state of this detector.
        """
        shapes = {name: np.shape(state.get(name, ())) for name in ("learned", "sums", "runs")}
        if set(state) != set(self.snapshot()) or shapes != {"learned": self._learned.shape, "sums": self._sums.shape, "runs": self._runs.shape}:
            raise ValueError(f"expected a state of {self.name} with {', '.join(sorted(self.snapshot()))}, found {', '.join(sorted(state))}: {shapes}")
        self._seen, self._learned = state["seen"], np.array(state["learned"])
        self._blocks = [np.array(block) for block in state["blocks"]]
        self._sums, self._runs = np.array(state["sums"]), np.array(state["runs"])
        self._judge()

    def _settle(self) -> None:
        if self._bounds is None:
            self._learned = self._learned + self._blocks.pop()
        elif (self._sums > self._bounds / 2).any():
            self._blocks = []
        elif len(self._blocks) > _HELD:
            self._learned = self._learned + self._blocks.pop(0)
        self._blocks.append(np.zeros_like(self._learned))
        self._judge()

    def _judge(self) -> None:
        """Set likelihood ratios and bounds by what has been learned."""
        rows, errors = self._learned.T
        total = rows.sum()
        self._bounds: Float64 | None = None
        if total < self.baseline:
            return
        rate = np.clip((errors + _PRIOR * _MIDDLES) / (rows + _PRIOR), *_LIMITS)
        share = rows / total
        variance = float(share @ (rate * (1 - rate)))
        margin = _MARGIN * np.sqrt(variance / total) if self._seen < SURE_BASELINE else 0.0
        usual = np.clip(rate + margin, *_LIMITS)[:, None]
        higher = np.clip(usual + np.array(EFFECTS), None, _LIMITS[1])
        self._ratios = np.stack([np.log((1 - higher) / (1 - usual)), np.log(higher / usual)], axis=2)
        drift = -share @ (usual * self._ratios[:, :, 1] + (1 - usual) * self._ratios[:, :, 0])
        spread = share @ (usual * (1 - usual) * (self._ratios[:, :, 1] - self._ratios[:, :, 0]) ** 2)
        self._bounds = np.maximum(1.0, np.log(len(EFFECTS) * self.run_length * drift) - _OVERSHOOT * np.sqrt(spread))

"""Folds labels of requests that champion and challenger both scored into blocks, each said once its labels have matured."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.services.drift.domain.arms import arms_of
from tidemill.services.drift.domain.findings import Coordinates
from tidemill.services.drift.domain.rows import Float64, OutcomeRows, PairRows
from tidemill.services.drift.domain.trial import Contest, ContestBlock
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.statistics.propensity import weighted_mean

LEAST_SLICE_LABELS = 20
_MOST_SLICES = 64
_DEFAULT = "default"
_CANARY, _WEIGHT, _LABEL, _CHAMPION_ANSWER, _CHALLENGER_ANSWER, _DRAW, _SCORES = range(7)


@dataclass(slots=True)
class _Block:
    """Outcomes of one contest's requests in one block, in the order in which they came: the last of a request counts.

    A row: whether the canary answered, how many requests the label stands for, label, both answers, draw, the champion's scores, the challenger's.
    """

    contest: Contest
    requests: list[tuple[int, int]] = field(default_factory=list)
    rows: list[Float64] = field(default_factory=list)
    slices: list[str] = field(default_factory=list)

    def settled(self) -> tuple[Float64, NDArray[np.object_]]:
        """Return the rows, and the slices, of the last outcome of each request, in the order of the requests."""
        last = {request: place for place, request in enumerate(self.requests)}
        places = [last[request] for request in sorted(last)]
        return np.array(self.rows)[places], np.array(self.slices, dtype=np.object_)[places]

    def snapshot(self) -> list[Any]:
        """State as plain lists and texts."""
        contest = self.contest
        rows = base64.b64encode(np.array(self.rows).tobytes()).decode()
        versions = [contest.champion_version, contest.challenger_version, contest.sequence, contest.share, contest.stage]
        return [versions, [list(one) for one in self.requests], rows, self.slices]

    @staticmethod
    def load(state: Sequence[Any], width: int) -> "_Block":
        """From a snapshot."""
        versions, requests, rows, slices = state
        table: Float64 = np.frombuffer(base64.b64decode(rows), np.float64).reshape(-1, width)
        return _Block(Contest(*versions), [(one, two) for one, two in requests], list(table), list(slices))


@dataclass(slots=True)
class Trials:
    """Fold over one model's outcomes that carry a pair.

    A block of requests (a day of journal time by default: the unit of the gate's test, because requests of one share their error) is closed as
    soon as its end is as old as the label horizon; whoever has no label by then counts as a request only. Corrections replace a label until then.
    What comes later is left out: the evidence is said once. Where answers hide labels, means are weighted by inverse propensity. Nothing is kept of
    requests without a pair.

    Parameters
    ----------
    block_ms
        Length of a block.

    Attributes
    ----------
    closed_ms
        Blocks that end by then are closed.
    """

    model: str
    kind: Kind
    block_ms: int
    blocks: dict[tuple[int, int], _Block] = field(default_factory=dict)
    closed_ms: int = -(2**62)

    def widen(self, kind: Kind) -> None:
        """Take up a kind with more classes, which nobody had answered."""
        before, self.kind = self.kind.width, kind
        more = np.zeros(kind.width - before)
        for block in self.blocks.values():
            block.rows = [np.concatenate([row[: _SCORES + before], more, row[_SCORES + before :], more]) for row in block.rows]

    def absorb(self, rows: OutcomeRows, mine: NDArray[np.bool_]) -> None:
        """Take outcomes in merge order; `mine` are the model's, shape (n,)."""
        pairs = rows.pairs
        if pairs is None:
            return
        chosen = np.flatnonzero(mine & (pairs.sequence >= 0) & (rows.status != "unmatched"))
        starts = rows.request_ms[chosen] // self.block_ms * self.block_ms
        chosen, starts = chosen[starts + self.block_ms > self.closed_ms], starts[starts + self.block_ms > self.closed_ms]
        if not len(chosen):
            return
        table = self._table(rows, pairs, chosen)
        for place, row in enumerate(chosen.tolist()):
            served, other = (str(rows.version[row]), int(pairs.served_sequence[row])), (str(pairs.version[row]), int(pairs.sequence[row]))
            (champion, _), (challenger, sequence) = (other, served) if rows.variant[row] == "canary" else (served, other)
            key = int(starts[place]), sequence
            block = self.blocks.get(key)
            if block is None:
                share = float(pairs.share[row])
                stage = str(pairs.stage[row] or ("canary" if share > 0 else "shadow"))
                block = self.blocks[key] = _Block(Contest(champion, challenger, sequence, share, stage))
            if block.contest.champion_version == _DEFAULT:
                # Where the default answered for the champion it is not named.
                block.contest = replace(block.contest, champion_version=champion)
            block.requests.append((int(rows.at.partition[row]), int(rows.request[row])))
            block.rows.append(table[place])
            block.slices.append(str(pairs.slices[row]))

    def close(self, now_ms: int, horizon_ms: int, floor_ms: int, offset: int) -> list[ContestBlock]:
        """Close the blocks whose horizon has passed at an instant before which everything is known.

        Parameters
        ----------
        floor_ms
            When the horizon last changed: no block is closed before.
        offset
            Journal offset of the last record read.
        """
        trials: list[ContestBlock] = []
        for start, sequence in sorted(key for key in self.blocks if key[0] + self.block_ms + horizon_ms <= now_ms):
            block = self.blocks.pop((start, sequence))
            at = Coordinates(max(start + self.block_ms + horizon_ms, floor_ms), 0, offset)
            trials += self._trials(block, at, start)
        self.closed_ms = max(self.closed_ms, (now_ms - horizon_ms) // self.block_ms * self.block_ms)
        return trials

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists, numbers and texts."""
        return {"closed_ms": self.closed_ms, "blocks": [[*key, self.blocks[key].snapshot()] for key in sorted(self.blocks)]}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.closed_ms = state["closed_ms"]
        width = _SCORES + 2 * self.kind.width
        self.blocks = {(start, sequence): _Block.load(block, width) for start, sequence, block in state["blocks"]}

    def _table(self, rows: OutcomeRows, pairs: PairRows, chosen: NDArray[np.int64]) -> Float64:
        """Return rows as blocks keep them; NaN where there is no label or score."""
        mask = np.zeros(len(rows.model), np.bool_)
        mask[chosen] = True
        served = np.column_stack([rows.predicted[chosen], rows.scores_of(self.kind, mask).reshape(len(chosen), -1)])
        other = np.column_stack([pairs.predicted[chosen], pairs.scores_of(self.kind, mask).reshape(len(chosen), -1)])
        served[rows.variant[chosen] == _DEFAULT, 1:] = np.nan
        by_canary = rows.variant[chosen] == "canary"
        champion, challenger = np.where(by_canary[:, None], other, served), np.where(by_canary[:, None], served, other)
        weight = rows.weight[chosen]
        label = np.where(self.kind.is_label(rows.label[chosen]) & (weight > 0), rows.label[chosen], np.nan)
        answers = champion[:, 0], challenger[:, 0]
        return np.column_stack([by_canary, weight, label, *answers, pairs.draw[chosen], champion[:, 1:], challenger[:, 1:]]).astype(np.float64)

    def _trials(self, block: _Block, at: Coordinates, start: int) -> list[ContestBlock]:
        table, slices = block.settled()
        groups: dict[str, list[int]] = {}
        for row, text in enumerate(slices.tolist()):
            for part in text.split("\x1f") if text else ():
                groups.setdefault(part, []).append(row)
        parts = [self._trial(part, block.contest, at, start, table[rows]) for part, rows in sorted(groups.items())]
        enough = [one for one in parts if one.counts["labels"] >= LEAST_SLICE_LABELS]
        largest = sorted(enough, key=lambda one: (-one.counts["labels"], one.part))[:_MOST_SLICES]
        # The whole comes last: who decides on it has seen the slices.
        return [*sorted(largest, key=lambda one: one.part), self._trial("", block.contest, at, start, table)]

    def _trial(self, part: str, contest: Contest, at: Coordinates, start: int, table: Float64) -> ContestBlock:
        width = self.kind.width
        champion, challenger = table[:, _SCORES : _SCORES + width], table[:, _SCORES + width :]
        has = [self._is_score(scores) for scores in (champion, challenger)]
        paired = has[0] & has[1] & ~np.isnan(table[:, _LABEL])
        weights = None if (table[paired, _WEIGHT] == 1).all() else table[paired, _WEIGHT]
        label, answers = table[paired, _LABEL], (table[paired, _CHAMPION_ANSWER], table[paired, _CHALLENGER_ANSWER])
        counts = {
            "requests": len(table),
            "labels": int(paired.sum()),
            "positives": int((label > 0).sum()) if self.kind.name != "regression" else 0,
            "champion_failures": int((~has[0]).sum()),
            "challenger_failures": int((~has[1]).sum()),
            "canary_answers": int(table[:, _CANARY].sum()),
        }
        means: dict[str, float] = {}
        losses = []
        for whose, scores, answer in zip(("champion", "challenger"), (champion[paired], challenger[paired]), answers, strict=True):
            binary = self.kind.name == "binary"
            counts |= {f"{whose}_yes": int((answer > 0).sum()) if binary else 0, f"{whose}_hits": int(label[answer > 0].sum()) if binary else 0}
            if not len(label):
                continue
            own = scores if self.kind.has_classes else scores[:, 0]
            losses.append(self.kind.losses(label, own))
            said, truth = (own, label) if not self.kind.has_classes else (own.max(axis=1), own.argmax(axis=1) == label)
            figures = (("loss", losses[-1]), ("score", said), ("truth", truth))
            means |= {f"{whose}_{what}": weighted_mean(values, weights) for what, values in figures}
        if losses:
            difference = losses[1] - losses[0]
            mean = means["difference_mean"] = weighted_mean(difference, weights)
            if len(difference) > 1:
                means["difference_variance"] = weighted_mean((difference - mean) ** 2, weights) * len(difference) / (len(difference) - 1)
        arms = self._arms(contest, table, champion) if not part and contest.share > 0 else {}
        return ContestBlock(self.model, at, part, contest, start, start + self.block_ms, counts, means, arms)

    def _arms(self, contest: Contest, table: Float64, champion: Float64) -> dict[str, Any]:
        known = self._is_score(champion) & ~np.isnan(table[:, _LABEL]) & ~np.isnan(table[:, _DRAW])
        label, expected = table[known, _LABEL], champion[known, 0]
        if self.kind.has_classes:
            label, expected = (label > 0).astype(np.float64), 1.0 - expected
        return arms_of(label, expected, table[known, _WEIGHT], table[known, _DRAW], contest.share)

    def _is_score(self, scores: Float64) -> NDArray[np.bool_]:
        return self.kind.is_score(scores if self.kind.has_classes else scores[:, 0])

"""Folds labels of requests that champion and challenger both scored into blocks, each said once its labels have matured."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.services.drift.domain.arms import arms_of
from tidemill.services.drift.domain.excess_loss import request_ids
from tidemill.services.drift.domain.findings import Coordinates
from tidemill.services.drift.domain.last_rows import LastRows
from tidemill.services.drift.domain.request_sample import Column
from tidemill.services.drift.domain.rows import Float64, OutcomeRows, PairRows
from tidemill.services.drift.domain.trial import Contest, ContestBlock
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.statistics.propensity import weighted_mean

LEAST_SLICE_LABELS = 20
_MOST_SLICES = 64
_DEFAULT = "default"
_MOST_PAIRS, _LEAST_TEXTS = 200_000, 1_024
_CANARY, _WEIGHT, _LABEL, _CHAMPION_ANSWER, _CHALLENGER_ANSWER, _DRAW, _SLICES, _SCORES = range(8)


@dataclass(slots=True)
class _Block:
    """Outcomes of one contest's requests in one block: the last of a request counts.

    A row: whether the canary answered, how many requests the label stands for, label, both answers, draw, the number of its slices' text, the
    champion's scores, the challenger's.
    """

    contest: Contest
    last: LastRows
    texts: list[str] = field(default_factory=list)
    room: int = _LEAST_TEXTS

    def absorb(self, requests: NDArray[np.int64], rows: Float64, slices: Sequence[str]) -> None:
        """Take outcomes in the order in which they came, with the texts of their slices."""
        numbers = {text: number for number, text in enumerate(self.texts)}
        rows[:, _SLICES] = [numbers.setdefault(text, len(numbers)) for text in slices]
        self.last.absorb(requests, rows)
        self.texts = list(numbers)
        if len(self.texts) > self.room:
            # Those of requests that a sample is without, or that moved from one slice to another, go.
            used, column = np.unique(self.last.rows.values[:, _SLICES].astype(np.int64), return_inverse=True)
            self.texts, self.last.rows.values[:, _SLICES] = [self.texts[number] for number in used.tolist()], column
            self.room = max(self.room, 2 * len(self.texts))

    def settled(self) -> tuple[Float64, list[str]]:
        """Return the rows, and the texts of their slices, of the last outcome of each request, in the order of the requests."""
        rows = self.last.ordered()
        return rows, [self.texts[number] for number in rows[:, _SLICES].astype(np.int64).tolist()]

    def widen(self, before: int, width: int) -> None:
        """Make room for the scores of more classes, which nobody had answered."""
        rows = self.last.rows.values
        more, champion = np.zeros((len(rows), width - before)), _SCORES + before
        self.last.width = _SCORES + 2 * width
        self.last.rows = Column(np.float64, self.last.width)
        self.last.rows.extend(np.column_stack([rows[:, :champion], more, rows[:, champion:], more]))

    def snapshot(self) -> list[Any]:
        """State as plain lists and texts."""
        contest = self.contest
        versions = [contest.champion_version, contest.challenger_version, contest.sequence, contest.share, contest.stage]
        return [versions, self.last.snapshot(), self.texts]

    @staticmethod
    def load(state: Sequence[Any], most: int, width: int) -> "_Block":
        """From a snapshot."""
        versions, last, texts = state
        return _Block(Contest(*versions), LastRows.load(last, most, width), list(texts))


@dataclass(slots=True)
class Trials:
    """Fold over one model's outcomes that carry a pair.

    A block of requests (a day of journal time by default: the unit of the gate's test, because requests of one share their error) is closed as
    soon as its end is as old as the label horizon; whoever has no label by then counts as a request only. Corrections replace a label until then.
    What comes later is left out: the evidence is said once. Where answers hide labels, means are weighted by inverse propensity. Nothing is kept of
    requests without a pair. A block of more than `most` requests is that of a sample of them (`RequestSample`): its counts are the sample's, too.

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
    most: int = _MOST_PAIRS
    blocks: dict[tuple[int, int], _Block] = field(default_factory=dict)
    closed_ms: int = -(2**62)

    def widen(self, kind: Kind) -> None:
        """Take up a kind with more classes, which nobody had answered."""
        before, self.kind = self.kind.width, kind
        for block in self.blocks.values():
            block.widen(before, kind.width)

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
        table, places = self._table(rows, pairs, chosen), defaultdict[tuple[int, int], list[int]](list)
        for place, row in enumerate(chosen.tolist()):
            served, other = (str(rows.version[row]), int(pairs.served_sequence[row])), (str(pairs.version[row]), int(pairs.sequence[row]))
            (champion, _), (challenger, sequence) = (other, served) if rows.variant[row] == "canary" else (served, other)
            key = int(starts[place]), sequence
            block = self.blocks.get(key)
            if block is None:
                share = float(pairs.share[row])
                stage = str(pairs.stage[row] or ("canary" if share > 0 else "shadow"))
                contest = Contest(champion, challenger, sequence, share, stage)
                block = self.blocks[key] = _Block(contest, LastRows(self.most, table.shape[1]))
            if block.contest.champion_version == _DEFAULT:
                # Where the default answered for the champion it is not named.
                block.contest = replace(block.contest, champion_version=champion)
            places[key].append(place)
        requests = request_ids(rows.at.partition[chosen], rows.request[chosen])
        for key, own in places.items():
            self.blocks[key].absorb(requests[own], table[own], [str(pairs.slices[row]) for row in chosen[own]])

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
        self.blocks = {(start, sequence): _Block.load(block, self.most, width) for start, sequence, block in state["blocks"]}

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
        columns = [by_canary, weight, label, *answers, pairs.draw[chosen], np.zeros(len(chosen)), champion[:, 1:], challenger[:, 1:]]
        return np.column_stack(columns).astype(np.float64)

    def _trials(self, block: _Block, at: Coordinates, start: int) -> list[ContestBlock]:
        table, slices = block.settled()
        groups: dict[str, list[int]] = {}
        for row, text in enumerate(slices):
            for part in json.loads(text) if text else ():
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

"""What of a training's rows is learned from and judged by, and whether there is anything in them for a refit to learn."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.retraining.domain.examples import DAY_MS, Examples, Stretches
from tidemill.services.retraining.domain.flipped_labels import LEFT_OUT, flipped_labels, joined, read, written
from tidemill.services.retraining.domain.recipe import Recipe
from tidemill.services.retraining.domain.training_context import Proposal, TrainingContext
from tidemill.services.retraining.domain.unlike_requests import LEAST, MOST, unlike_requests
from tidemill.shared.avro.times import instant_text
from tidemill.shared.models.served_model import ServedModel

_SHOWN = 5


class NoRefitError(ValueError):
    """A refit is not worth making, or not now."""


@dataclass(frozen=True, slots=True)
class Learnable:
    """A training without the rows that nothing is learned from.

    Attributes
    ----------
    words
        Why rows are left out, or are not any more; empty where that is no question.
    figures, details
        Of what was found, as they stand in the training's record.
    is_lasting
        Whether labels look flipped up to the newest, and are left out.
    """

    bench: TrainingContext
    words: str = ""
    is_lasting: bool = False
    figures: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)

    def told(self, proposal: Proposal) -> Proposal:
        """Return what a training has come to, with what was left out of it."""
        if not self.words:
            return proposal
        verdict = replace(proposal.verdict, reason=f"{proposal.verdict.reason}; {self.words}")
        return replace(proposal, verdict=verdict, figures={**proposal.figures, **self.figures}, details={**proposal.details, **self.details})


def learnable(bench: TrainingContext, champion: ServedModel) -> Learnable:
    """Leave out rows whose labels are flipped (`flipped_labels`), those that the champion left out among them.

    What lasts longer than `gate.span` is not left out any more: it is how the world is now.
    """
    gate, known = bench.settings.gate, champion.signature.details
    before = read(known.get(LEFT_OUT, ""))
    trusted = _without(bench, before)
    found = flipped_labels(bench.kind, trusted.examples, trusted.served, int(known["learned_until_ms"]), gate.span, gate.block)
    stretches = joined((*before, *([(found.begin_ms, found.end_ms)] if found else [])), gate.block)
    kept = tuple((begin, end) for begin, end in stretches if end - begin <= gate.span)
    if not stretches:
        return Learnable(bench)
    left = _without(bench, kept)
    rows = len(bench.examples) - len(left.examples)
    words, figures = [], {"left_out_rows": float(rows)}
    if found is not None:
        figures |= {"flipped_share": found.share, "flipped_log_e": found.log_e, "flipped_rows": float(found.rows)}
        words.append(
            f"{found.share:.0%} of the labels of {found.rows:,} requests from {instant_text(found.begin_ms)} to {instant_text(found.end_ms)} look"
            f" flipped, whatever the inputs (likelihood ratio e^{found.log_e:.0f})"
        )
    if rows:
        words.append(f"{rows:,} rows are left out")
    if len(kept) < len(stretches):
        words.append(f"labels that look so for more than {gate.span / DAY_MS:g} days are learned")
    is_lasting = found is not None and any(begin <= found.begin_ms < end for begin, end in kept) and _is_newest(trusted, found.end_ms)
    return Learnable(left, "; ".join(words), is_lasting, figures, {LEFT_OUT: written(kept)} if kept else {})


def refits_only(bench: TrainingContext) -> bool:
    """Whether a training has nothing to do but to refit the champion's recipe."""
    return not bench.is_searched and _is_admitted(bench)


def expect_usual_requests(bench: TrainingContext, asked: pa.RecordBatch, asked_ms: NDArray[np.int64]) -> None:
    """Refuse to refit the champion's recipe while the newest requests are unlike those up to a block before them (`unlike_requests`).

    A column has broken, or the world has just changed: how the refit and the champion answer what neither has learned from is chance, and what serves
    stays. The next training has rows of it. The newest are those that are too young to be learned from, but of a quarter of a block and fifty at
    least, and of one block and 2,000 at most.

    Parameters
    ----------
    asked, asked_ms : n requests in the order of time, and their times, shape (n,)
        Of the last `gate.span`, labelled or not.

    Raises
    ------
    NoRefitError
    """
    block_ms = bench.settings.gate.block
    in_block, young = ((asked_ms >= bench.end_ms - age).sum() for age in (block_ms, min(block_ms, max(bench.horizon_ms, block_ms // 4))))
    count = min(MOST, int(max(young, min(LEAST, in_block))))
    # What breaks has often begun before the newest of them.
    before = len(asked_ms) - max(int(in_block), count)
    if found := unlike_requests(asked.slice(0, before), asked.slice(len(asked_ms) - count)):
        words = "; ".join(str(one) for one in found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
        whose = f"the last {count:,} requests to be like the {before:,} up to a block before"
        raise NoRefitError(f"expected {whose}, found {words}; the model that serves stays")


def expect_right_labels(looked: Learnable) -> None:
    """Refuse a training beside an admitted recipe while labels look flipped up to the newest.

    Either they are wrong, then what serves is as good as a refit on the rows before; or the world has begun to change, which so few rows cannot be
    told from it: then how a refit without them and the champion answer what neither has learned from is chance, and what serves stays. The next
    training has more of them. Another recipe would be judged on the rows before, as it was when one was looked for last.

    Raises
    ------
    NoRefitError
    """
    if looked.is_lasting and _is_admitted(looked.bench):
        raise NoRefitError(f"expected labels that can be learned up to the newest, found that {looked.words}; the model that serves stays")


def expect_new_rows(looked: Learnable, champion: ServedModel) -> None:
    """Refuse to refit the champion's recipe on the rows that it has learned: the same model would serve under another name.

    A training that looks for another recipe, or has to judge the champion's again, has something to do all the same. Labels that were corrected
    since do not count as new.

    Raises
    ------
    NoRefitError
    """
    bench, known = looked.bench, champion.signature.details
    # What the champion left out and nobody leaves out any more is new to it, as classes are that it does not know.
    is_same = champion.signature.classes == bench.kind.classes and _covers(bench.examples.left_out, read(known.get(LEFT_OUT, "")))
    if not (is_same and refits_only(bench)):
        return
    rows, since = bench.examples, int(known["learned_until_ms"])
    split = bench.split()
    new = (rows.request_ms >= since) | (rows.label_ms >= int(known.get("known_until_ms", since)))
    new &= (rows.request_ms < split.learned_until(split.end)) & bench.kind.is_label(rows.labels)
    if not new.any():
        why = f"; {looked.words}" if looked.words else ""
        whose = f"{champion.signature.version}, which serves,"
        raise NoRefitError(f"expected labelled rows that {whose} has not learned, found none since {instant_text(since)}{why}")


def _is_admitted(bench: TrainingContext) -> bool:
    """Whether the champion's recipe is known, and its refits go out."""
    return bench.is_admitted and Recipe.of(bench.incumbent, bench.features) is not None


def _is_newest(bench: TrainingContext, end_ms: int) -> bool:
    """Whether a stretch ends with the newest labelled requests, but for less than a block: blocks of few rows say little."""
    asked = bench.examples.request_ms[bench.kind.is_label(bench.examples.labels)]
    return bool(asked.max(initial=end_ms) < end_ms + bench.settings.gate.block)


def _covers(stretches: Stretches, others: Stretches) -> bool:
    return all(any(begin <= start and stop <= end for begin, end in stretches) for start, stop in others)


def _without(bench: TrainingContext, stretches: Stretches) -> TrainingContext:
    asked = bench.examples.request_ms
    kept = np.ones(len(asked), np.bool_)
    for begin, end in stretches:
        kept &= (asked < begin) | (asked >= end)
    rows: Examples = replace(bench.examples.where(kept), left_out=stretches)
    return replace(bench, examples=rows, served=bench.served[kept])

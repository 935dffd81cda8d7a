"""Where champions change among the predictions of a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tidemill.services.drift.domain.rows import PredictionRows
from tidemill.shared.kinds.served_scores import classes_answered


@dataclass(frozen=True, slots=True)
class Promotion:
    """A model's first answer by another version: how far from its score the ends of its interval lie, and the classes that it names."""

    model: str
    version: str
    sequence: int
    lower_offset: float
    upper_offset: float
    classes: Sequence[str]


def promotions_of(rows: PredictionRows, serving: Mapping[str, tuple[int, str | None]]) -> dict[int, list[Promotion]]:
    """Return the promotions by the place of the first answer in the merged order.

    Parameters
    ----------
    serving
        Sequence and version (None: nobody served) of the champion before these rows, by model.
    """
    promotions: dict[int, list[Promotion]] = {}
    champion = rows.variant == "champion"
    for model, (sequence, version) in serving.items():
        mine = champion & (rows.model == model) & ((rows.sequence > sequence) | (rows.version != version))
        for row in np.flatnonzero(mine).tolist():
            if rows.sequence[row] >= sequence and (rows.version[row] != version):
                sequence, version = int(rows.sequence[row]), str(rows.version[row])
                lower, upper = (float(ends[row] - rows.score[row]) for ends in (rows.lower, rows.upper))
                classes = classes_answered(rows.scores.slice(row, 1))
                promotions.setdefault(int(rows.at.place[row]), []).append(Promotion(model, version, sequence, lower, upper, classes))
    return promotions

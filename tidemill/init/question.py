"""What is asked of the table: two classes, several, or a number; and what tells it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from tidemill.init.column import InputColumn
from tidemill.init.column_types import slip
from tidemill.replay.file_rows import DataSetError

QuestionKind = Literal["binary", "multiclass", "regression"]
_YES = frozenset(
    "true yes ja oui si sí sim da wahr vrai vero verdadero verdadeiro on enabled active ✓ + y t 1 1.0 positive pos fraud phishing spam bad churn"
    " churned malignant default late fail failed failure sick ill anomaly attack good win up success delayed cancelled".split()
)
_NO = frozenset(
    "false no nein non não nie нет falsch faux falso off disabled inactive ✗ - n f 0 0.0 -1 negative neg none not normal benign ham legitimate ok"
    " healthy loss down".split()
)
_MOST_CLASSES_OF_NUMBERS = 20
_MOST_CLASSES = 100
_ROWS_A_CLASS = 5
ROWS_OF_A_CLASS = 24
"""Rows of a class, below which no first model learns it."""
_FAR, _TAIL_SHARE, _LEAST_OF_COUNTS = 10, 0.01, 5
_LONGEST_CLASS = 200
_LARGEST = float(np.finfo(np.float32).max)
_LAST_EXACT = 2.0**53
_TWO = 2


@dataclass(frozen=True, slots=True)
class Question:
    """What is predicted.

    Attributes
    ----------
    kind
        As the application file names it.
    evidence
        Why it is that kind, in words.
    labels : series of Float64, n rows
        0 or 1, the index of the class, or the number; null where the row has no label.
    classes
        In the order of their indices; of a binary question (negative, positive); none of a number.
    values
        Binary: what the label's values mean, where they are neither 0 and 1 nor true and false.
    counts
        Rows by class.
    learned
        Whether the classes are left to be learned from the labels; those here are what the table has enough rows of.
    """

    kind: QuestionKind
    evidence: str
    labels: pl.Series
    classes: Sequence[str]
    values: Mapping[str | int | float, int]
    counts: Mapping[str, int]
    learned: bool = False

    @property
    def known(self) -> int:
        """Rows with a label."""
        return len(self.labels) - self.labels.null_count()

    @property
    def mean(self) -> float:
        """Mean of the labels: of a binary question the share of the positive class."""
        values = self.labels.drop_nulls().to_numpy()
        if not len(values):
            return 0.0
        return float(values.mean())

    @property
    def rarest(self) -> tuple[str, int]:
        """The class with the fewest rows."""
        return min(self.counts.items(), key=lambda item: item[1])


def ask(label: InputColumn, kind: QuestionKind | None, declared: Sequence[str] = ()) -> Question:
    """Find out what the label is, or hold it against what it is said to be.

    Parameters
    ----------
    kind
        What the user says; None: found in the values.
    declared
        Classes that the file lists, in its order.

    Raises
    ------
    DataSetError
        There is no label, it has one value, or its values do not fit the kind.
    """
    given = label.values.drop_nulls()
    if not len(given):
        raise DataSetError(f"label {label.name!r}: expected values, found none in {len(label):,} rows")
    if label.kind in ("other", "date", "time"):
        raise DataSetError(f"label {label.name!r}: expected numbers, truth values or texts, found {_kind_words(label)}")
    texts = given.unique().sort().to_list() if given.n_unique() <= _MOST_CLASSES + 1 else []
    distinct = given.n_unique()
    if distinct == 1:
        raise DataSetError(
            f"label {label.name!r}: expected at least two different values, found {given[0]!r} in all {len(given):,} rows that have one:"
            " there is nothing to tell apart"
        )
    numeric = label.kind in ("integer", "number")
    if label.kind == "text" and kind in (None, "regression") and distinct > _MOST_CLASSES_OF_NUMBERS and (row := slip(label.values)) is not None:
        raise DataSetError(
            f"label {label.name!r}, row {row + 1}: expected a number as nearly all others are, found {label.values[row]!r}; correct it, or leave it"
            " empty (rows without a label are asked, and teach nothing)"
        )
    chosen, evidence = (kind, f"as --kind says; {distinct:,} different values") if kind is not None else _infer(label, distinct, numeric)
    if chosen == "regression":
        if not numeric:
            raise DataSetError(
                f"label {label.name!r}: expected numbers (kind: regression), found {_kind_words(label)} such as {given[0]!r}:"
                f" say --kind {'binary' if distinct == _TWO else 'multiclass'}"
            )
        numbers = label.values.cast(pl.Float64)
        if (largest := max(numbers.drop_nulls().abs().to_list(), default=0.0)) > _LARGEST:
            raise DataSetError(f"label {label.name!r}: expected numbers of at most {_LARGEST:.1e}, which is what models answer, found {largest}")
        return Question("regression", evidence, numbers, (), {}, {})
    if (longest := max((len(class_text(value)) for value in texts), default=0)) > _LONGEST_CLASS:
        way = "say --kind regression" if numeric else "is it a free text?"
        raise DataSetError(f"label {label.name!r}: expected classes of at most {_LONGEST_CLASS} characters, found one of {longest:,}: {way}")
    if chosen == "binary" and distinct != _TWO:
        some = f": {', '.join(map(class_text, texts[:8]))}" if texts else f" different values such as {given[0]!r}"
        way = "regression or --kind multiclass" if numeric else "multiclass"
        raise DataSetError(f"label {label.name!r}: expected two different values (kind: binary), found {distinct}{some}; say --kind {way}")
    if label.kind == "number" and chosen == "multiclass" and not whole_numbers(given):
        broken = given.filter(given != given.round())[0]
        raise DataSetError(f"label {label.name!r}: expected whole numbers or texts (kind: multiclass), found {broken!r}: say --kind regression")
    if distinct > _MOST_CLASSES:
        raise DataSetError(
            f"label {label.name!r}: expected at most {_MOST_CLASSES} classes (kind: {chosen}), found {distinct:,} different values such as"
            f" {given[0]!r}: {'say --kind regression' if numeric else 'is it an id or a free text? name another column with --label'}"
        )
    if chosen == "binary":
        return _binary(label, texts, evidence)
    return _multiclass(label, texts, evidence, declared)


def _infer(label: InputColumn, distinct: int, numeric: bool) -> tuple[QuestionKind, str]:
    if distinct == _TWO:
        return "binary", "two different values"
    if not numeric:
        return "multiclass", f"{distinct:,} different texts"
    given = label.values.drop_nulls()
    if distinct <= _MOST_CLASSES_OF_NUMBERS and whole_numbers(given) and len(given) >= distinct * _ROWS_A_CLASS:
        if (few := _tail(given)) > _TAIL_SHARE * len(given) and distinct >= _LEAST_OF_COUNTS:
            words = f"{distinct} different whole numbers, {few:,} rows with such as are rare"
            return "regression", f"{words} (if they name classes, say --kind multiclass)"
        # Counts have few values, too; but the most frequent of them lie side by side, as class numbers do, so this is said and can be overruled.
        return "multiclass", f"{distinct} different whole numbers (if they are amounts or counts, say --kind regression)"
    return "regression", f"{distinct:,} different numbers"


def _tail(given: pl.Series) -> int:
    """Return how many rows have values that are far rarer than the most frequent one, and too rare for a class to be learned."""
    counts = given.value_counts()["count"].to_numpy()
    return int(counts[(counts < ROWS_OF_A_CLASS) & (counts * _FAR < counts.max())].sum())


def whole_numbers(given: pl.Series) -> bool:
    """Tell whether values are whole numbers that a double holds exactly."""
    return given.dtype == pl.Int64 or bool(((given == given.round()) & (given.abs() <= _LAST_EXACT)).all())


def _binary(label: InputColumn, values: list[object], evidence: str) -> Question:
    """Decide which value is 1: true, 1 or a word for yes; else the rarer one."""
    first, second = values
    counts = {value: int((label.values == value).sum()) for value in values}
    marks = [_mark(value) for value in values]
    if label.kind == "boolean" or (label.kind in ("integer", "number") and {v for v in values if isinstance(v, int | float)} == {0, 1}):
        negative, positive, why = first, second, ""
        mapping: dict[str | int | float, int] = {}
    else:
        if label.kind in ("integer", "number"):
            negative, positive, why = first, second, "the larger number is 1"
        elif marks[0] != marks[1]:
            positive, negative = (first, second) if marks[0] > marks[1] else (second, first)
            why = f"{class_text(positive)} is 1, by its name"
        else:
            positive = min(values, key=lambda value: (counts[value], class_text(value)))
            negative = first if positive == second else second
            rarer = counts[first] != counts[second]
            why = f"{class_text(positive)} is 1: it is the rarer one" if rarer else f"{class_text(positive)} is 1: both are as frequent"
        mapping = {_key(label, negative): 0, _key(label, positive): 1}
    labels = (label.values == positive).cast(pl.Float64)
    evidence = f"{evidence}: {class_text(negative)} and {class_text(positive)}{f' ({why})' if why else ''}"
    return Question(
        "binary",
        evidence,
        labels,
        (class_text(negative), class_text(positive)),
        mapping,
        {class_text(value): counts[value] for value in (negative, positive)},
    )


def _mark(value: object) -> int:
    """Return 1 for a word that means yes, -1 for one that means no, 0 for others."""
    text = str(value).strip().lower()
    if text in _NO or re.match(r"^(no|not|non|un|in)[ _-]", text):
        return -1
    return 1 if text in _YES else 0


def _multiclass(label: InputColumn, values: list[object], evidence: str, declared: Sequence[str]) -> Question:
    texts = [class_text(value) for value in values]
    if set(texts) <= set(declared):
        texts = list(declared)
        evidence += ", as the file declares them"
    named = label.values.map_elements(class_text, return_dtype=pl.String)
    indices = {text: float(i) for i, text in enumerate(texts)}
    labels = named.replace_strict(indices, default=None, return_dtype=pl.Float64)
    counts = {text: int((named == text).sum()) for text in texts}
    return Question("multiclass", evidence, labels, tuple(texts), {}, counts)


def _key(label: InputColumn, value: object) -> str | int | float:
    """Return a label's value as the application file spells it."""
    if isinstance(value, float) and value == int(value):
        return int(value)
    return value if isinstance(value, int | float | str) else str(value)


def class_text(value: object) -> str:
    """Return a class as the application file names it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)


def _kind_words(label: InputColumn) -> str:
    return {"text": "texts", "boolean": "truth values", "date": "dates", "time": "times", "other": f"{label.values.dtype}"}.get(label.kind, "numbers")

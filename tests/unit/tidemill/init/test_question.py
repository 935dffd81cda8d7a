"""What is asked follows from the label's values, or is what the user says; what cannot be asked is refused by name."""

from collections import Counter
from typing import Any

import polars as pl
import pytest

from tidemill.init.column_types import typed
from tidemill.init.question import ask
from tidemill.replay.file_rows import DataSetError


@pytest.mark.parametrize(
    ("values", "kind", "classes", "mapping"),
    [
        (["0", "1", "1"], "binary", ("0", "1"), {}),
        (["true", "false", "true"], "binary", ("false", "true"), {}),
        (["yes", "no", "yes"], "binary", ("no", "yes"), {"no": 0, "yes": 1}),
        (["-1", "1", "1"], "binary", ("-1", "1"), {-1: 0, 1: 1}),
        (["1", "2", "2"], "binary", ("1", "2"), {1: 0, 2: 1}),
        (["1.0", "0.0", ""], "binary", ("0", "1"), {}),
        (["ham", "spam", "ham"], "binary", ("ham", "spam"), {"ham": 0, "spam": 1}),
        (["left", "right", "left"], "binary", ("left", "right"), {"left": 0, "right": 1}),
        (["b", "a", "a"], "binary", ("a", "b"), {"a": 0, "b": 1}),
        (["c", "a", "b"], "multiclass", ("a", "b", "c"), {}),
        (["1", "2", "3"] * 5, "multiclass", ("1", "2", "3"), {}),
        (["1", "2", "3"], "regression", (), {}),
        (["1.5", "2", "3"] * 5, "regression", (), {}),
    ],
)
def test_the_kind_follows_from_the_values(values: list[str], kind: str, classes: tuple[str, ...], mapping: dict[Any, int]) -> None:
    question = ask(typed("y", pl.Series("y", values)), None)
    assert (question.kind, tuple(question.classes), dict(question.values)) == (kind, classes, mapping)
    if kind != "regression":
        named = [question.classes[int(label)] for label in question.labels.drop_nulls().to_list()]
        plain = [value.removesuffix(".0") for value in values if value]
        assert named == plain and Counter(plain) == {name: count for name, count in question.counts.items() if count}


def test_classes_keep_the_order_in_which_the_file_declares_them() -> None:
    question = ask(typed("y", pl.Series("y", ["a", "b", "c"])), None, ["c", "b", "a", "d"])
    assert question.classes == ("c", "b", "a", "d") and question.labels.to_list() == [2.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (["", ""], None, "label 'y': expected values, found none in 2 rows"),
        (["1", "1", ""], None, "expected at least two different values, found 1 in all 2 rows that have one"),
        (["a", "b", "c"], "binary", "expected two different values .*, found 3: a, b, c; say --kind multiclass"),
        (["a", "b", "c"], "regression", "expected numbers .*, found texts such as 'a': say --kind multiclass"),
        ([f"w{i}" for i in range(200)], None, "expected at most 100 classes .*, found 200 different values such as 'w0': is it an id or a free text"),
        ([f"{i}.5" for i in range(200)], "multiclass", "say --kind regression"),
        (["2024-01-01", "2024-01-02"], None, "expected numbers, truth values or texts, found dates"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(values: list[str], kind: Any, expected: str) -> None:
    with pytest.raises(DataSetError, match=expected):
        ask(typed("y", pl.Series("y", values)), kind)

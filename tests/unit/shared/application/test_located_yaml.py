import itertools
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.located_yaml import load_yaml

TEXT = """\
words: [no, yes, on, off, y, NO, 3h, 1:30, 2013-01-01, a b, "true", '1', 1_000x, .5.]
numbers: [0, -3, +4, 010, 0x1F, 0o17, 1.5, -.5, 2., 1e3, 1.5E-3, .inf, -.inf]
truths: [true, True, FALSE]
nothing: [null, ~, Null, ]
empty:
base: &base {a: 1, b: 2}
more: {<<: *base, b: 3}
text: |
  two
  lines
nested: {list: [{x: 1}, {x: *base}]}
"""


def test_it_means_what_the_other_parser_of_yaml_1_2_says(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(TEXT)
    ours, theirs = load_yaml(file).data, YAML(typ="safe", pure=True).load(TEXT)
    assert str(theirs["words"].pop(8)) == ours["words"].pop(8) == "2013-01-01"  # a date there, a word here
    assert ours == theirs


def test_lines_are_those_of_the_deepest_part_that_exists(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("a:\n  b:\n    - 1\n    - c: 2\n<<: {z: 1}\n")
    located = load_yaml(file)
    lines = [located.line(path) for path in ((), ("a",), ("a", "b"), ("a", "b", 1), ("a", "b", 1, "c"), ("a", "b", 7), ("a", "no", "b"), ("z",))]
    assert lines == [1, 1, 2, 4, 4, 2, 1, 5]


@pytest.mark.parametrize("text", ["a: 1\n<<: 3\n", "a: 1\n[1, 2]: 3\n", "a: 1\n1: x\n1: y\n", "b: 1\na: !!int '3'\n"])
def test_what_is_refused_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(ApplicationError) as caught:
        load_yaml(file)
    assert caught.value.line == text.count("\n") and caught.value.file == file


def test_a_file_that_would_be_more_than_any_memory_is_refused(tmp_path: Path) -> None:
    """Nine lines of aliases of aliases are 9 to the power of 9 values, and a mapping of two aliases in each other 2 to the power of 40."""
    file = tmp_path / "a.yaml"
    laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in itertools.pairwise("abcdefghi"))
    doubled = "a0: &a0 {k: 1}\n" + "".join(f"a{i + 1}: &a{i + 1} {{x: *a{i}, y: *a{i}}}\n" for i in range(40))
    for text in (laughs, doubled):
        file.write_text(text)
        with pytest.raises(ApplicationError, match="at most 1,000,000 values, aliases written out"):
            load_yaml(file)


@pytest.mark.parametrize("text", ["[" * 5_000 + "]" * 5_000, "[" * 1_000_000, "{a: " * 1_000_000, "\n  " + "- " * 100_000])
def test_a_file_that_is_nested_deeper_than_a_stack_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"a: {text}\n")
    with pytest.raises(ApplicationError, match="at most 100 lists and mappings within each other"):
        load_yaml(file)


def test_digits_beyond_every_number_are_a_text(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"a: {'9' * 5_000}\n")
    assert load_yaml(file).data == {"a": "9" * 5_000}

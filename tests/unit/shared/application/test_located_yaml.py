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
    found = [located.line(path) for path in ((), ("a",), ("a", "b"), ("a", "b", 1), ("a", "b", 1, "c"), ("a", "b", 7), ("a", "no", "b"), ("z",))]
    assert found == [1, 1, 2, 4, 4, 2, 1, 5]


@pytest.mark.parametrize("text", ["a: 1\n<<: 3\n", "a: 1\n[1, 2]: 3\n", "a: 1\n1: x\n1: y\n", "b: 1\na: !!int '3'\n"])
def test_what_is_refused_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(ApplicationError) as caught:
        load_yaml(file)
    assert caught.value.line == text.count("\n") and caught.value.file == file

"""YAML files that remember where everything stood."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError

from shared.application.errors import ApplicationError

SECTIONS = ("streams", "entities", "views", "models")


class Document:
    """An application's YAML, merged from its files, with the file and line of every value.

    ``app.yaml`` may hold everything. Files in ``streams/``, ``views/`` and ``models/`` each hold entries of that section; a
    name that stands in two places is refused.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "app.yaml"
        if not self.file.is_file():
            raise ApplicationError(self.file, 1, "an application file", "none")
        root = _load(self.file)
        self._root = root
        self._owners: dict[tuple[str, str], tuple[Path, CommentedMap]] = {}
        self.data: dict[str, Any] = {key: value for key, value in root.items() if key not in SECTIONS}
        for section in SECTIONS:
            self.data[section] = {}
            self._merge(section, self.file, root.get(section) or CommentedMap())
            for file in sorted((folder / section).glob("*.yaml")):
                self._merge(section, file, _load(file))

    def _merge(self, section: str, file: Path, entries: Any) -> None:  # noqa: ANN401, RUF100
        if not isinstance(entries, CommentedMap):
            raise ApplicationError(file, 1, f"a mapping of {section}", type(entries).__name__)
        for name, value in entries.items():
            if (section, name) in self._owners:
                raise ApplicationError(
                    file, _line(entries, name), f"each of the {section} once", f"{name} again, after {self._owners[section, name][0]}"
                )
            self._owners[section, name] = (file, entries)
            self.data[section][name] = value

    def position(self, path: Sequence[str | int]) -> tuple[Path, int]:
        """Return file and line (from 1) of the deepest part of `path` that exists."""
        if len(path) >= 2 and (str(path[0]), str(path[1])) in self._owners:
            file, node = self._owners[str(path[0]), str(path[1])]
            return file, _walk(node, path[1:])
        return self.file, _walk(self._root, path)

    def error(self, path: Sequence[str | int], expected: str, came: str) -> ApplicationError:
        """Make the error for the value at `path`."""
        file, line = self.position(path)
        return ApplicationError(file, line, expected, came)


def _load(file: Path) -> CommentedMap:
    try:
        loaded = YAML(typ="rt").load(file.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ApplicationError(file, line, "YAML", str(error.problem)) from error
    except UnicodeDecodeError as error:
        raise ApplicationError(file, 1, "UTF-8 text", str(error)) from error
    if not isinstance(loaded, CommentedMap):
        raise ApplicationError(file, 1, "a mapping", type(loaded).__name__)
    return loaded


def _line(node: CommentedMap | CommentedSeq, key: str | int) -> int:
    known = node.lc.data or {}
    return int(known[key][0]) + 1 if key in known else int(node.lc.line) + 1


def _walk(node: Any, path: Sequence[str | int]) -> int:  # noqa: ANN401, RUF100
    line = 1
    for key in path:
        if isinstance(node, CommentedMap) and key in node:
            line, node = _line(node, key), node[key]
        elif isinstance(node, CommentedSeq) and isinstance(key, int) and key < len(node):
            line, node = _line(node, key), node[key]
        else:
            break
    return line

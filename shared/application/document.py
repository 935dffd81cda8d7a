"""An application's YAML files as one document that remembers where everything stood."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.located_yaml import LocatedYaml, load_yaml

SECTIONS = ("streams", "entities", "views", "models")


class Document:
    """An application's YAML, merged from its files, with the file and line of every value.

    ``app.yaml`` may hold everything. Files in ``streams/``, ``entities/``, ``views/`` and ``models/`` each hold entries of that section; a
    name that stands in two places is refused. ``owner: a team`` at the top of such a file is the owner of its entries that name none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "app.yaml"
        if not self.file.is_file():
            raise ApplicationError(self.file, 1, "an application file", "none")
        self._root = load_yaml(self.file)
        self._places: dict[tuple[str, str], LocatedYaml] = {}
        self.data: dict[str, Any] = {key: value for key, value in self._root.data.items() if key not in SECTIONS}
        for section in SECTIONS:
            self.data[section] = {}
            entries = self._root.data.get(section) or {}
            if not isinstance(entries, dict):
                raise ApplicationError(self.file, self._root.line([section]), f"a mapping of {section}", type(entries).__name__)
            self._merge(section, self._root, entries, None)
            for file in sorted((folder / section).glob("*.yaml")):
                part = load_yaml(file)
                owner = part.data.get("owner") if section != "entities" else None
                named = isinstance(owner, str)
                self._merge(
                    section, part, {name: value for name, value in part.data.items() if name != "owner" or not named}, owner if named else None
                )

    def _merge(self, section: str, source: LocatedYaml, entries: dict[str, Any], owner: str | None) -> None:
        for name, value in entries.items():
            if (section, name) in self._places:
                line = source.line([section, name] if source is self._root else [name])
                raise ApplicationError(source.file, line, f"each of the {section} once", f"{name} again, after {self._places[section, name].file}")
            self._places[section, name] = source
            self.data[section][name] = {"owner": owner, **value} if owner is not None and isinstance(value, dict) else value

    def position(self, path: Sequence[str | int]) -> tuple[Path, int]:
        """Return file and line (from 1) of the deepest part of `path` that exists."""
        source = self._places.get((str(path[0]), str(path[1])), self._root) if len(path) >= 2 else self._root
        return source.file, source.line(path if source is self._root else path[1:])

    def error(self, path: Sequence[str | int], expected: str, came: str) -> ApplicationError:
        """Make the error for the value at `path`, whose key is named where neither what was expected nor what came does."""
        file, line = self.position(path)
        key = next((part for part in reversed(path) if isinstance(part, str)), "")
        named = not key or re.search(rf"(?<!\w){re.escape(key)}(?!\w)", f"{expected} {came}")
        return ApplicationError(file, line, expected if named else f"{key}: {expected}", came)

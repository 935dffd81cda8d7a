"""ARFF, the format of Weka and OpenML, with texts, dates, quotes and sparse rows (scipy's reader refuses texts)."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from tidemill.init.raw_table import RawTable
from tidemill.replay.file_rows import DataSetError, open_text

_ATTRIBUTE = re.compile(r"""@attribute\s+(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|(\S+?))\s+(.+)$""", re.IGNORECASE)
_NOMINAL = re.compile(r"^\{(.*)\}\s*$", re.DOTALL)
_VALUE = r"""(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^{0}'"][^{0}]*|))"""
_CELL = re.compile(rf"\s*{_VALUE.format(',')}\s*(,|$)")
_TAB_CELL = re.compile(rf" *{_VALUE.format(chr(9))} *(\t|$)")
_PAIR = re.compile(rf"\s*(\d+)\s+{_VALUE.format(',')}\s*(?:,|$)")
_WEIGHT = re.compile(r"(?<=\})\s*,\s*\{[\d.]+\}$")
_QUOTED_OR_COMMENT = re.compile(r"""(?<![^\s,{])(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(\s+%.*)""")
_KINDS = ("numeric", "real", "integer", "string", "date")
_MISSING = "?"


def read_arff(file: Path, encoding: str) -> RawTable:
    """Read a file; every column is text, `?` is no value.

    Raises
    ------
    DataSetError
        Names the line, what was expected, what came.
    """
    names: list[str] = []
    declared: dict[str, list[str]] = {}
    defaults: list[str] = []
    rows: list[list[str | None]] = []
    lines: list[int] = []
    in_data = False
    for number, line in _lines(file, encoding):
        text = line.strip()
        if not text or text.startswith("%"):
            continue
        if not in_data and text.lower().startswith("@data"):
            # As Weka has it, the first row may stand on the same line.
            in_data, text = True, _without_comment(f" {text[len('@data') :]}").strip()
            if not text:
                continue
        if in_data:
            rows.append(_row(text, names, declared, defaults, f"{file}:{number}"))
            lines.append(number)
        elif text.lower().startswith("@attribute"):
            name, values, default = _attribute(text, f"{file}:{number}")
            if name in names:
                raise DataSetError(f"{file}:{number}: expected a name of its own for every attribute, found {name!r} a second time")
            names.append(name)
            defaults.append(default)
            if values:
                declared[name] = values
        elif not text.lower().startswith("@relation"):
            raise DataSetError(f"{file}:{number}: expected @relation, @attribute or @data, found {text[:60]!r}")
    if not names or not in_data:
        raise DataSetError(f"{file}: expected ARFF with @attribute lines and @data, found no {'@data' if names else '@attribute'}")
    columns = {name: pl.Series(name, [row[i] for row in rows], pl.String) for i, name in enumerate(names)}
    return RawTable(file, "ARFF", pl.DataFrame(columns), lambda row: f"{file}:{lines[row]}", declared)


def _lines(file: Path, encoding: str) -> Iterator[tuple[int, str]]:
    try:
        with open_text(file, "ARFF", encoding) as source:
            for number, line in enumerate(source, 1):
                yield number, line.decode("utf-8", "replace")
    except (OSError, EOFError) as error:
        raise DataSetError(f"{file}: expected ARFF: {error}") from error


def _attribute(text: str, place: str) -> tuple[str, list[str], str]:
    """Return the name, the listed values (none for other kinds) and what a sparse row leaves out."""
    match = _ATTRIBUTE.match(text)
    if match is None:
        raise DataSetError(f"{place}: expected @attribute NAME TYPE, found {text[:80]!r}")
    name = next(part for part in match.groups()[:3] if part is not None).replace("\\", "")
    kind = match[4].strip()
    if nominal := _NOMINAL.match(kind) or _NOMINAL.match(_without_comment(kind)):
        values = [value for value in _cells(nominal[1]) if value is not None]
        return name, values, values[0] if values else ""
    if kind.split()[0].lower() not in _KINDS:
        raise DataSetError(f"{place}: expected a type among {', '.join(_KINDS)} or {{values}}, found {kind[:60]!r}")
    return name, [], "0"


def _row(text: str, names: list[str], declared: Mapping[str, list[str]], defaults: list[str], place: str) -> list[str | None]:
    """Return the values of a line without the comment behind them; what belongs to a value of a listed class is none."""
    plain = _without_comment(text)
    if text.startswith("{"):
        return _sparse(plain, defaults, place)
    cells = _cells(text)
    if plain != text and (len(cells) != len(names) or cells[-1] not in declared.get(names[-1], ())):
        shorter = _cells(plain)
        cells = shorter if len(shorter) >= len(names) else cells
    return _dense(cells, text, len(names), place)


def _without_comment(text: str) -> str:
    """Return a line without what stands behind a `%` that follows a space, outside of quotes."""
    comment = next((match for match in _QUOTED_OR_COMMENT.finditer(text) if match[1]), None)
    return text if comment is None else text[: comment.start()]


def _dense(cells: list[str | None], text: str, width: int, place: str) -> list[str | None]:
    if len(cells) == width + 1 and re.fullmatch(r"\{[\d.]+\}", cells[-1] or ""):
        # The weight of an instance.
        cells = cells[:-1]
    if len(cells) != width:
        raise DataSetError(f"{place}: expected {width} values, one for each attribute, found {len(cells)}: {text[:120]!r}")
    return cells


def _sparse(text: str, defaults: list[str], place: str) -> list[str | None]:
    text = _WEIGHT.sub("", text)
    row: list[str | None] = list(defaults)
    inner = text[1 : text.rfind("}")].strip()
    pairs = list(_PAIR.finditer(inner))
    if sum(len(match[0]) for match in pairs) < len(inner) or any(int(match[1]) >= len(defaults) for match in pairs):
        raise DataSetError(f"{place}: expected {{INDEX VALUE, ...}} with indices below {len(defaults)}, found {text[:120]!r}")
    for match in pairs:
        row[int(match[1])] = _value(match, 2)
    return row


def _cells(text: str) -> list[str | None]:
    """Return the values of a line; a `?` without quotes is none."""
    pattern = _TAB_CELL if "\t" in text and "," not in text else _CELL
    cells: list[str | None] = []
    at = 0
    while True:
        match = pattern.match(text, at)
        if match is None:
            # Behind a closing quote something else follows: the rest is one value as it stands.
            return [*cells, text[at:].strip()]
        cells.append(_value(match, 1))
        at = match.end()
        if not match[4]:
            return cells


def _value(match: re.Match[str], group: int) -> str | None:
    single, double, bare = match[group], match[group + 1], match[group + 2]
    if single is None and double is None:
        return None if bare.strip() == _MISSING else bare.strip()
    return re.sub(r"\\(.)", r"\1", single if single is not None else double)

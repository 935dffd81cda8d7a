"""Names that Avro, SQL and the application file take, for columns that are called anything."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

_LETTERS = {
    "ß": "ss",
    "æ": "ae",
    "Æ": "AE",
    "ø": "o",
    "Ø": "O",
    "đ": "d",
    "ł": "l",
    "Ł": "L",
    "%": " percent ",
    "#": " number ",
    "€": " eur ",
    "$": " usd ",
}
_PLAIN = re.compile(r"^[A-Za-z][A-Za-z0-9_]*$")
_LONGEST = 60
_NO_WORDS_OF_YAML = ("null", "true", "false")
"""Names that would stand in the application file as nothing, or as a truth value."""
_EVERYTHING = "all"
"""What a view's rates by all requests are called, in place of a column."""


def avro_names(columns: Iterable[str], taken: Iterable[str] = ()) -> Mapping[str, str]:
    """Return a name for each column: its own where Avro takes it, else its letters and digits; no two are alike, also without regard to case.

    >>> dict(avro_names(["amount", "Größe (cm)", "名前", "order-id", "order_id", "2nd", "_x"]))
    {'amount': 'amount', 'Größe (cm)': 'Grosse_cm', '名前': 'column_3', 'order-id': 'order_id_2', 'order_id': 'order_id', '2nd': 'c_2nd', '_x': 'x'}
    """
    given = list(columns)
    used = {*_NO_WORDS_OF_YAML, _EVERYTHING, *(name.lower() for name in taken)}
    # Whoever has a good name keeps it, whatever its neighbours would become.
    names_by_column = {}
    for column in given:
        if _PLAIN.match(column) and "__" not in column and len(column) <= _LONGEST and column.lower() not in used:
            names_by_column[column] = column
            used.add(column.lower())
    for i, column in enumerate(given):
        if column not in names_by_column:
            names_by_column[column] = _free(_letters(column) or f"column_{i + 1}", used)
    return {column: names_by_column[column] for column in given}


def given_names(columns: Sequence[str]) -> list[str]:
    """Return the names of a table's columns, in which one without a name is called by its place.

    >>> given_names(["", "x", " ", "column_3"])
    ['column_1', 'x', 'column_3_2', 'column_3']
    """
    used = {column.lower() for column in columns}
    return [column if column.strip() else _free(f"column_{i}", used) for i, column in enumerate(columns, 1)]


def slug(text: str, otherwise: str) -> str:
    """Return a name as applications, entities and streams have them: lower case, letters and digits.

    >>> slug("My Table (2024)", "table"), slug("数据", "table")
    ('my_table_2024', 'table')
    """
    name = _letters(text).lower()
    if not name:
        return otherwise
    return name if name[0].isalpha() and name not in _NO_WORDS_OF_YAML else f"c_{name}"


def _letters(text: str) -> str:
    spelled = "".join(_LETTERS.get(letter, letter) for letter in text)
    plain = unicodedata.normalize("NFKD", spelled).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_")[:_LONGEST].rstrip("_")
    return f"c_{name}" if name[:1].isdigit() else name


def _free(name: str, used: set[str]) -> str:
    free, number = name, 2
    while free.lower() in used:
        free, number = f"{name}_{number}", number + 1
    used.add(free.lower())
    return free

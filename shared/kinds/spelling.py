"""How a value of a file or a record is written when it names a class."""

from typing import Any


def spelled(value: Any) -> str:  # noqa: ANN401, RUF100 - whatever stands in the file
    """Return the text of a class: whole numbers without a point, truth values as in YAML.

    >>> [spelled(value) for value in ("setosa", 3, 3.0, 2.5, True)]
    ['setosa', '3', '3', '2.5', 'true']
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)

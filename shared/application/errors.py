"""What is wrong in an application folder, and where."""

from pathlib import Path


class ApplicationError(ValueError):
    """A mistake in an application: stops every process before the first record.

    Attributes
    ----------
    file, line
        Where (line counts from 1).
    expected, came
        What should stand there, and what does.
    """

    def __init__(self, file: Path, line: int, expected: str, came: str) -> None:
        super().__init__(f"{file}:{line}: expected {expected}, found {came}")
        self.file = file
        self.line = line
        self.expected = expected
        self.came = came

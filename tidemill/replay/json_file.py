"""JSON lines, read as ingestion reads JSON: the same values, the same verdicts."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from tidemill.replay.file_rows import DataSetError, FileRows, not_utf8, open_text
from tidemill.shared.application.plan import StreamPlan
from tidemill.shared.avro.json_events import JsonDecoder


def read_json(file: Path, stream: StreamPlan, available: str) -> FileRows:
    """Read one object a line; empty lines are none.

    Parameters
    ----------
    available
        A column beside the stream's own, kept as text where it is there.

    Raises
    ------
    DataSetError
        Names the line, what was expected, what came.
    """
    decoder = JsonDecoder(stream.user_schema, stream.times, stream.event_time)
    rows: list[dict[str, Any]] = []
    known: list[str | None] = []
    lines: list[int] = []
    for number, content in enumerate(lines_of(file), 1):
        if not content.strip():
            continue
        try:
            parsed = decoder.parse(content)
            known.append(_text(parsed.pop(available, None)) if isinstance(parsed, dict) and available not in decoder.arrow.names else None)
            rows.append(decoder.row(parsed))
        except UnicodeDecodeError as error:
            raise not_utf8(file) or error from error
        except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
            raise _refusal(file, number, stream, error) from error
        lines.append(number)
    table = pa.Table.from_batches([_batch(file, stream, decoder, rows, lines)])
    if any(text is not None for text in known):
        table = table.append_column(available, pa.array(known, pa.string()))
    return FileRows(table, lambda row: f"{file}:{lines[row]}")


def lines_of(file: Path) -> list[bytes]:
    """Return the lines of a file of text; raises DataSetError."""
    try:
        with open_text(file, "JSON lines") as source:
            # Not at other line ends than these: texts may hold them.
            return source.read().replace(b"\r\n", b"\n").split(b"\n")
    except (OSError, EOFError) as error:
        raise DataSetError(f"{file}: expected JSON lines: {error}") from error


def _batch(file: Path, stream: StreamPlan, decoder: JsonDecoder, rows: list[dict[str, Any]], lines: list[int]) -> pa.RecordBatch:
    try:
        return pa.RecordBatch.from_pylist(rows, schema=decoder.arrow)
    except (ValueError, TypeError, OverflowError, pa.ArrowException):
        for number, row in zip(lines, rows, strict=True):
            try:
                pa.RecordBatch.from_pylist([row], schema=decoder.arrow)
            except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
                raise _refusal(file, number, stream, error) from error
        raise


def _refusal(file: Path, number: int, stream: StreamPlan, error: Exception) -> DataSetError:
    return DataSetError(f"{file}:{number}: expected a JSON object as the stream {stream.name} has them: {error}")


def _text(value: object) -> str | None:
    return None if value is None else str(value) if isinstance(value, str | Decimal) else json.dumps(value)

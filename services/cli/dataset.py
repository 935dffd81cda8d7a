"""Data sets that can be replayed: the flights of 2013, generated payments, or a user's own files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from tidemill.examples.flights.data import load_year, stream_batch
from tidemill.examples.payments.generator import PaymentsOptions, generate_payments
from tidemill.replay.dataset_files import FileOptions, read_folder
from tidemill.replay.feed import StreamTable
from tidemill.replay.file_rows import DataSetError
from tidemill.shared.application.plan import Plan

# At the ten milliseconds of a load test, an hour of payments has no label yet: replays show learning, so they stretch over months.
_PAYMENTS_INTERVAL_MS = 120_000.0


@dataclass(frozen=True, slots=True)
class DataSetOptions:
    """How much of a built-in data set; None where its own default is meant.

    Attributes
    ----------
    days
        Flights: days of the year.
    count, interval_ms, seed
        Payments: how many, how far apart on average, and which.
    available
        Files: the column that says when a row became known.
    available_format
        Files: how that column is written; None: milliseconds or ISO 8601.
    """

    days: int | None = None
    count: int | None = None
    interval_ms: float | None = None
    seed: int | None = None
    available: str = "_available"
    available_format: str | None = None


def load_data_set(plan: Plan, name: str, options: DataSetOptions) -> dict[str, StreamTable]:
    """Return the rows of every stream of a data set: a built-in one by name, else a folder's files.

    Raises
    ------
    DataSetError
    """
    built_in: Mapping[str, Callable[[Plan, DataSetOptions], dict[str, StreamTable]]] = {"flights": _flights, "payments": _payments}
    if name in built_in:
        tables = built_in[name](plan, options)
    else:
        folder = Path(name)
        if not folder.is_dir():
            raise DataSetError(f"expected a data set ({', '.join(built_in)}) or a folder of files, one per stream; found no folder {name}")
        tables = read_folder(plan, folder, FileOptions(options.available, options.available_format))
    if not any(len(table) for table in tables.values()):
        raise DataSetError(f"expected at least one record in data set {name}, found none")
    return tables


def _flights(plan: Plan, options: DataSetOptions) -> dict[str, StreamTable]:
    year = load_year(options.days, bad_records=False)
    _check_streams(plan, "flights", year.streams)
    return {
        name: StreamTable(pa.Table.from_batches([stream_batch(plan.streams[name], published.frame)]), published.available_ms)
        for name, published in year.streams.items()
    }


def _payments(plan: Plan, options: DataSetOptions) -> dict[str, StreamTable]:
    default = PaymentsOptions()
    made = generate_payments(
        PaymentsOptions(
            default.count if options.count is None else options.count,
            _PAYMENTS_INTERVAL_MS if options.interval_ms is None else options.interval_ms,
            default.seed if options.seed is None else options.seed,
        )
    )
    _check_streams(plan, "payments", made)
    return {
        name: StreamTable(rows.columns.select(plan.streams[name].user_arrow.names).cast(plan.streams[name].user_arrow), rows.available_ms)
        for name, rows in made.items()
    }


def _check_streams(plan: Plan, name: str, streams: Mapping[str, object]) -> None:
    if missing := [stream for stream in streams if stream not in plan.streams]:
        raise DataSetError(
            f"expected an application with the streams {', '.join(streams)} for the data set {name};"
            f" {plan.application.app} has {', '.join(plan.streams)} (not {missing[0]})"
        )

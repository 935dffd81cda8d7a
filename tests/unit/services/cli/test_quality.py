"""Served quality counts every request once, with the last that became known of it."""

import pandas as pd
import polars as pl

from services.cli.quality import labelled


def test_silence_and_corrections_are_labels() -> None:
    rows = [
        ("m", 0, 1, "labelled", 1.0, 0),
        ("m", 0, 2, "timeout", 0.0, 0),
        ("m", 0, 3, "timeout", None, 0),
        ("m", 0, 4, "timeout", 0.0, 0),
        ("m", 0, 4, "corrected", 1.0, 1),
        ("m", 1, 4, "labelled", 0.0, 0),
        ("m", 0, -1, "unmatched", 1.0, 0),
        ("other", 0, 5, "labelled", 1.0, 0),
        ("m", 0, 1, "corrected", 0.0, 1),
        ("m", 0, 1, "corrected", 1.0, 2),
        ("m", 0, 6, "timeout", None, 0),
        ("m", 0, 6, "corrected", 1.0, 1),
        ("m", 0, 7, "labelled", 7.0, 0),
    ]
    names = ["model", "journal_partition", "request_journal_offset", "status", "label", "revision"]
    found = labelled(pl.DataFrame(rows, schema=names, orient="row").to_arrow(), "m")
    frame = pd.DataFrame(rows, columns=names)
    frame = frame[(frame.model == "m") & (frame.status != "unmatched") & frame.label.isin([0, 1])]
    expected = frame.groupby(names[1:3]).label.last().to_dict()
    assert {(row[1], row[2]): row[4] for row in found.rows()} == expected == {(0, 1): 1, (0, 2): 0, (0, 4): 1, (1, 4): 0, (0, 6): 1}

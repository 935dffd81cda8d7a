"""Files as people have them: each dialect is read as it is meant, or refused with its place. Oracles: values written down by hand, pandas."""

import gzip
import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tidemill.init.column_types import typed
from tidemill.init.reading import read_table
from tidemill.replay.file_rows import DataSetError

ROWS = "name,amount\nÄpfel,1.5\nNüsse,2\n"
SAME = {"name": ["Äpfel", "Nüsse"], "amount": ["1.5", "2"]}


@pytest.mark.parametrize(
    ("file", "content", "form"),
    [
        ("a.csv", ROWS.encode(), "commas"),
        ("a.csv", ROWS.encode("utf-8-sig"), "commas"),
        ("a.csv", ROWS.encode("utf-16"), "commas"),
        ("a.csv", ROWS.encode("cp1252"), "commas"),
        ("a.csv.gz", gzip.compress(ROWS.encode(), mtime=0), "commas"),
        ("a.txt", ROWS.replace(",", ";").encode(), "';'"),
        ("a.tsv", ROWS.replace(",", "\t").encode(), "tabs"),
        ("a.psv", ROWS.replace(",", "|").replace("\n", "\r\n").encode(), "'|'"),
        ("a.csv", ("sep=;\r\n" + ROWS.replace(",", ";")).encode("utf-8-sig"), "';'"),
        ("a.csv", ("SEP=,\n" + ROWS).encode("utf-16"), "commas"),
        ("a.csv", b'name,amount\n"\xc3\x84pfel","1.5"\n"N\xc3\xbcsse",2', "commas"),
    ],
    ids=["plain", "mark", "utf-16", "windows", "gzip", "semicolons", "tabs", "bars", "told", "told in utf-16", "quoted"],
)
def test_csv_of_every_dialect(tmp_path: Path, file: str, content: bytes, form: str) -> None:
    (tmp_path / file).write_bytes(content)
    table = read_table(tmp_path / file)
    assert table.frame.to_dict(as_series=False) == SAME and table.form == f"CSV separated by {form}"
    assert bool(table.notes) == (content == ROWS.encode("cp1252"))


def test_texts_with_separators_quotes_and_line_ends_stay_whole(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["a,b", 'he said "no"', "two\nlines", "x;y;z"], "n": [1, 2, 3, 4]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert read_table(tmp_path / "t.csv").frame["text"].to_list() == frame["text"].tolist()


@pytest.mark.parametrize(
    ("content", "name", "note"),
    [
        ('id, name\n1, "a, b"\n2, "c"\n', ["a, b", "c"], "spaces"),
        ('id,name\n1,"he said \\"no\\", twice"\n2,"c"\n', ['he said "no", twice', "c"], "backslash"),
        ("id,name\n1,'a, b'\n2,'c'\n", ["a, b", "c"], "single quotes"),
        ("id,name\n1,'a'\n2,'c'\n", ["a", "c"], "single quotes"),
        ("id,name\n1,'a'\n2,it's\n", ["'a'", "it's"], None),
        ('id,name\n1,"C:\\dir"\n2,"c"\n', ["C:\\dir", "c"], None),
    ],
    ids=["space before a quote", "backslash", "single quotes and a separator", "single quotes", "an apostrophe", "a path"],
)
def test_quotes_are_read_as_other_programs_write_them(tmp_path: Path, content: str, name: list[str], note: str | None) -> None:
    (tmp_path / "q.csv").write_text(content)
    table = read_table(tmp_path / "q.csv")
    assert table.frame["name"].to_list() == name and table.place(1).endswith(":3")
    assert [one for one in table.notes if (note or "") in one] == list(table.notes) and bool(table.notes) == bool(note)


ARFF = """% a comment
@RELATION 'a table'
@attribute 'the name' string
@attribute amount NUMERIC
@attribute colour {red, 'dark blue', "green"}
@attribute day date "yyyy-MM-dd"
@DATA
'it\\'s, here',1.5,red,2024-01-02

plain,?,'dark blue',2024-01-03
"""


def test_arff_with_texts_quotes_and_gaps(tmp_path: Path) -> None:
    (tmp_path / "t.arff").write_text(ARFF)
    table = read_table(tmp_path / "t.arff")
    assert table.frame.rows() == [("it's, here", "1.5", "red", "2024-01-02"), ("plain", None, "dark blue", "2024-01-03")]
    assert table.declared["colour"] == ["red", "dark blue", "green"] and table.place(1).endswith(":10")


def test_arff_comments_stand_behind_rows_too_and_the_first_row_beside_data(tmp_path: Path) -> None:
    head = "@relation r\n@attribute a numeric\n@attribute b {x,'y %z'} % which\n@attribute c string\n"
    (tmp_path / "t.arff").write_text(head + "@data 1,x,one % first\n2,'y %z','a % b' % 'second'\n3,x,50% off\n")
    table = read_table(tmp_path / "t.arff")
    assert table.frame.rows() == [("1", "x", "one"), ("2", "y %z", "a % b"), ("3", "x", "50% off")]
    assert table.declared["b"] == ["x", "y %z"] and table.place(0).endswith(":5")


def test_sparse_arff_rows_take_their_defaults(tmp_path: Path) -> None:
    (tmp_path / "t.arff").write_text("@relation r\n@attribute a numeric\n@attribute b {x,y}\n@attribute c numeric\n@data\n{0 3, 2 ?}\n{1 y}\n")
    assert read_table(tmp_path / "t.arff").frame.rows() == [("3", "x", None), ("0", "y", "0")]
    (tmp_path / "t.arff").write_text("@relation r\n@attribute a numeric\n@attribute b {x,y}\n@data\n{0 3}, {2.5}\n{1 y},{1}\n")
    assert read_table(tmp_path / "t.arff").frame.rows() == [("3", "x"), ("0", "y")], "with the weights of Weka's instances"


def test_json_lines_arrays_and_nested_objects(tmp_path: Path) -> None:
    rows = [{"a": 1, "b": {"c": "x", "d": 1.5}, "t": True}, {"a": None, "b": {"c": "y"}, "t": False}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "t.json").write_text(json.dumps(rows, indent=1))
    for name in ("t.jsonl", "t.json"):
        frame = read_table(tmp_path / name).frame
        assert frame.to_dict(as_series=False) == {"a": [1, None], "b.c": ["x", "y"], "b.d": [1.5, None], "t": [True, False]}
        assert frame.schema == {"a": pl.Int64, "b.c": pl.String, "b.d": pl.Float64, "t": pl.Boolean}


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    frame = pd.DataFrame({"n": [1, 2], "s": pd.Categorical(["a", "b"]), "t": pd.to_datetime(["2024-01-01", "2024-01-02"], utc=True)})
    frame.to_parquet(tmp_path / "t.parquet", index=False)
    table = read_table(tmp_path / "t.parquet")
    columns = {name: typed(name, table.frame[name]) for name in table.frame.columns}
    assert {name: column.kind for name, column in columns.items()} == {"n": "integer", "s": "text", "t": "time"}
    assert columns["t"].values.to_list()[1].isoformat() == "2024-01-02T00:00:00"


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("a.csv", b"", "expected a table .*, found an empty file"),
        ("a.csv", b"a,b\n", "expected at least one row, found the columns a, b and no row"),
        ("a.csv", b"a,b\n1,2\n3\n", r"a\.csv:3: expected 2 values as in the header, found 1"),
        ("a.csv", b"a,a\n1,2\n", "expected a name of its own for every column, found 'a' 2 times"),
        ("a.csv", b"PK\x03\x04abcd", "found a ZIP archive, as Excel's workbooks are: save the sheet as CSV"),
        ("a.bin", b"\x00\x01\x02abc", "found bytes that are no text"),
        ("a.parquet", b"a,b\n1,2\n", "expected Parquet, as its name says"),
        ("a.parquet", b"PAR1abcdefgh", "expected Parquet: "),
        ("a.csv.gz", gzip.compress(ROWS.encode() * 9, mtime=0)[:-20], "cannot be read|expected CSV"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', r"a\.jsonl:2: expected a JSON object a line"),
        ("a.jsonl", b"[1, 2]\n", "expected an array of objects, found 1 in it"),
        ("a.jsonl", b'{"a": "b"}\n{"a": "\\ud800"}\n', r"a\.jsonl:2: .*half of a pair of surrogates \(.ud800\)"),
        ("a.jsonl", b'{"a": 1, "a": 2}\n', r"a\.jsonl:1: .*expected each field once, found 'a' 2 times"),
        ("a.jsonl", b'{"a.b": 1, "a": {"b": 2}}\n', r"a\.jsonl:1: .*'a.b' with a point in a name and as an object's field"),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "found an old document of Excel's"),
        ("a.csv.zst", b"\x28\xb5\x2f\xfdabc", "found a file packed by zstd"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16-le"), "seems to be UTF-16 without one: save it as UTF-8"),
        ("a.csv", b"<!DOCTYPE html>\n<html>", "found HTML or XML"),
        ("a.jsonl", b'{"a": 1}\n5\n', r"a\.jsonl:2: expected a JSON object a line, found 5$"),
        ("a.json", b"[" * 100_000, "some hundred objects and arrays within each other"),
        ("a.arff", b"@relation r\n@attribute a numeric\n@data\n1,2\n", r"a\.arff:4: expected 1 values, one for each attribute, found 2"),
        ("a.arff", b"@relation r\n@attribute a colour\n@data\n1\n", r"a\.arff:2: expected a type among"),
    ],
)
def test_what_is_no_table_is_refused_with_its_place(tmp_path: Path, file: str, content: bytes, expected: str) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataSetError, match=expected):
        read_table(tmp_path / file)


@pytest.mark.parametrize("name", ["nothing.csv", "."])
def test_no_file_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataSetError, match="expected a file with a table"):
        read_table(tmp_path / name)


def test_zones_and_decimals_of_parquet_are_instants_and_whole_numbers(tmp_path: Path) -> None:
    """A zone that is an offset ended in polars' own error, and ids that a database had as NUMBER(38, 0) were floating."""
    table = pa.table(
        {
            "at": pa.array([1_711_756_800_000], pa.timestamp("ms", "+05:30")),
            "id": pa.array([Decimal(2**60 + 1)], pa.decimal128(38, 0)),
            "price": pa.array([Decimal("1.25")], pa.decimal128(10, 2)),
            "wei": pa.array([Decimal(10**30)], pa.decimal128(38, 0)),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    (row,) = read_table(tmp_path / "t.parquet").frame.to_dicts()
    assert row == {"at": datetime.fromisoformat("2024-03-30T00:00:00"), "id": 2**60 + 1, "price": 1.25, "wei": 1e30}


def test_a_first_line_of_values_is_said(tmp_path: Path) -> None:
    for first, told in (("0.126,0", 1), ("5.1,setosa", 0), ("x,2024", 0), ("998,999", 0), ("x,y", 0)):
        (tmp_path / "t.csv").write_text(f"{first}\n1,2\n")
        assert len(read_table(tmp_path / "t.csv").notes) == told, first


def test_columns_without_a_name_are_called_by_their_place(tmp_path: Path) -> None:
    """Beside a column_0 they ended in polars' own error."""
    (tmp_path / "t.csv").write_text(",column_0, ,column_3\n1,2,3,4\n")
    assert read_table(tmp_path / "t.csv").frame.columns == ["column_1", "column_0", "column_3_2", "column_3"]
    pq.write_table(pa.table({"": [1], "column_0": [2]}), tmp_path / "t.parquet")
    (tmp_path / "t.jsonl").write_text('{"": 1, "column_0": 2}\n')
    for name in ("t.parquet", "t.jsonl"):
        assert read_table(tmp_path / name).frame.to_dicts() == [{"column_1": 1, "column_0": 2}]

"""Paths that cannot be what a command takes them for: a message that names the path and exit code 2, before the work begins, never a traceback."""

import os
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tidemill.services.cli.__main__ import app, main
from tidemill.services.cli.output_file import output_file, output_folder
from tidemill.services.cli.terminal import failures
from tidemill.shared.log.broker import FencedError
from tidemill.shared.text_guard import strange_bytes

PAYMENTS = Path(__file__).parents[4] / "examples" / "payments"
UNREADABLE = Path("/proc/self/mem")
"""Reading its beginning is an error, also for root."""


@pytest.mark.parametrize(("file", "place", "words"), [
    ("app.yaml", UNREADABLE, "app.yaml:1: expected a file that can be read, found Input/output error"),
    ("views/more.yaml", UNREADABLE, "more.yaml:1: expected a file that can be read, found Input/output error"),
    ("views/more.yaml", Path("nowhere"), "more.yaml:1: expected a file that can be read, found No such file or directory"),
    ("streams/more.yaml", Path("/"), "more.yaml:1: expected a file that can be read, found Is a directory"),
    ("schemas/payment.avsc", UNREADABLE, "expected an Avro record schema in schemas/payment.avsc, found [Errno 5] Input/output error"),
])  # fmt: skip
def test_an_application_that_cannot_be_read_is_refused_by_file(tmp_path: Path, file: str, place: Path, words: str) -> None:
    folder = tmp_path / "app"
    shutil.copytree(PAYMENTS, folder)
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).unlink(missing_ok=True)
    (folder / file).symlink_to(place)
    result = CliRunner().invoke(app, ["check", str(folder)])
    assert result.exit_code == 2 and words in " ".join(result.output.split())


@pytest.mark.timeout(30)
@pytest.mark.parametrize("file", ["views/more.yaml", "payments/part.csv", "payments/part.jsonl", "payments/part.parquet"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, file: str) -> None:
    """Nobody writes to it: opening it would never come back."""
    folder = tmp_path / "app"
    shutil.copytree(PAYMENTS, folder)
    (folder / file).parent.mkdir(exist_ok=True)
    os.mkfifo(folder / file)
    command = ["check", str(folder)] if file.endswith(".yaml") else ["backtest", str(folder), "--data", f"payments={folder / 'payments'}"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2 and f"{Path(file).name}" in result.output and "a pipe, which may never end" in " ".join(result.output.split())


def test_a_schema_whose_name_no_file_has_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "app"
    shutil.copytree(PAYMENTS, folder)
    (folder / "app.yaml").write_text((PAYMENTS / "app.yaml").read_text().replace("schemas/payment.avsc", "x" * 300))
    result = CliRunner().invoke(app, ["check", str(folder)])
    assert result.exit_code == 2 and "app.yaml:9: expected an Avro schema file in the application folder, found xxx" in result.output.replace(
        "\n", " "
    )


def test_a_name_that_no_file_has_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, failures():
        Path("x" * 300).is_dir()
    assert ended.value.exit_code == 2 and "File name too long" in capsys.readouterr().err
    with pytest.raises(typer.Exit) as fenced, failures():
        raise FencedError("a replay by another operator")
    assert fenced.value.exit_code == 1 and "Somebody else has begun the same" in capsys.readouterr().err
    with pytest.raises(OSError, match="nobody's path"), failures():
        raise OSError("nobody's path")


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    """A backtest ended in a traceback after its last event; as root, --predictions /dev/null made a file of the device."""
    device = tmp_path / "device"
    os.mkfifo(device)
    taken = tmp_path / "file"
    taken.write_text("x")
    for path, words in [
        (tmp_path, "is a folder"),
        (device, "a device or a pipe, which would be replaced"),
        (taken / "report", "File exists"),
        (tmp_path / ("x" * 300), "File name too long"),
        (Path("/proc/none/report"), "No such file or directory"),
        (Path("/proc/report"), "No such file or directory"),
    ]:
        with pytest.raises(typer.BadParameter, match=words):
            output_file(path)
    assert output_file(taken) == taken and output_file(tmp_path / "new/report") and (tmp_path / "new").is_dir() and output_file(None) is None
    for path, words in [(taken, "expected a folder"), (device, "expected a folder"), (taken / "kept", "Not a directory")]:
        with pytest.raises(typer.BadParameter, match=words):
            output_folder(path)
    result = CliRunner().invoke(app, ["backtest", str(PAYMENTS), "--data", "payments", "--report", "."])
    assert result.exit_code == 2 and "expected a file to write, . is a folder" in result.output


@pytest.mark.parametrize(
    ("words", "setting", "found"),
    [
        (["init", "caf\udce9", "--from-table", "t.csv", "--label", "y"], {}, "argument 2, found caf\\xe9"),
        (["trace", "app", "id", "--lake", "file:///caf\udce9/lake"], {}, "argument 5, found file:///caf\\xe9/lake"),
        (["check", "app"], {"TIDEMILL_LAKE__URI": "s3cret\udce9"}, "the setting 'TIDEMILL_LAKE__URI', found another byte as character 25"),
        (["check", "app"], {"PATH": "s3cret\udce9"}, ""),
    ],
)
def test_bytes_that_are_no_text_are_refused_before_anything_is_done(
    words: list[str], setting: dict[str, str], found: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """YAML, JSON, Kafka and the archive have no form for them, and each ended with a traceback of its own."""
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["tidemill", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err
    assert ended.value.code == 2 and (found in told if found else "expected UTF-8" not in told) and "s3cret" not in told


def test_a_working_folder_whose_name_is_no_text_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert "the name of the working folder, found " in str(strange_bytes([], {})) and "caf\\xe9" in str(strange_bytes([], {}))
    folder.rmdir()
    assert strange_bytes([], {}) is None


def test_a_full_disk_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, failures():
        Path("/dev/full").write_text("x")
    assert ended.value.exit_code == 1 and "expected room on the disk" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["list"], ["export", "refused.jsonl"], ["replay"]], ids=lambda words: words[0])
def test_dead_letters_of_a_stream_that_the_application_has_not_are_a_word_and_no_empty_list(command: list[str]) -> None:
    """Before any server is looked for: a stream that was misspelled had 0 dead letters."""
    words = ["dead-letters", command[0], str(PAYMENTS), *command[1:], "--stream", "payment"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2 and "expected streams of the application" in result.output and "got payment" in result.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["list", PAYMENTS, "--since", "yesterday"], "expected a time in ISO 8601, such as 2013-01-31T08:00:00Z, got 'yesterday'"),
        (["list", PAYMENTS, "--until", ""], "expected a time in ISO 8601"),
        (["list", PAYMENTS, "--since", "2014-01-01", "--until", "2013-01-01"], "expected since before until"),
        (["list", PAYMENTS, "--limit", "0"], "greater than or equal to 1"),
        (["show", PAYMENTS, "here"], "expected the place of a dead letter as PARTITION:OFFSET, got 'here'"),
        (["show", PAYMENTS, f"0:{'9' * 5_000}"], "expected the place of a dead letter as PARTITION:OFFSET, got '0:9"),
        (["replay", PAYMENTS], "or say --all"),
        (["replay", PAYMENTS, "0:-1"], "expected the place of a dead letter"),
        (["export", PAYMENTS, PAYMENTS], "is a folder"),
        (["export", PAYMENTS, PAYMENTS / "app.yaml"], "expected a file that does not exist yet"),
        (["export", PAYMENTS, "/dev/null"], "a device or a pipe"),
        (["export", PAYMENTS, "/proc/letters"], "expected a file that can be written"),
        (["export", PAYMENTS, PAYMENTS / "app.yaml" / "letters"], "expected a file that can be written"),
        (["list", PAYMENTS, "--run", "/dev/null"], "expected a run in /dev/null, found none"),
        (["list", PAYMENTS, "--run", "nowhere"], "expected a run in nowhere, found none"),
        (["list", PAYMENTS / "app.yaml"], "is a file"),
    ],
)
def test_odd_arguments_of_dead_letters_are_refused_in_words(words: list[str | Path], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    result = CliRunner().invoke(app, ["dead-letters", *map(str, words)])
    assert result.exit_code == 2 and says in " ".join(result.output.split()), result.output

"""What the environment asks of a command and does not exist is said in one line, before anything starts."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidemill.runs.pipeline import TOPOLOGY
from tidemill.runs.settings import SettingsError, read_settings
from tidemill.services.cli.__main__ import app

FLIGHTS = Path(__file__).parents[4] / "examples" / "flights"


COMMANDS = [["up", str(FLIGHTS)], ["replay", str(FLIGHTS), "flights", "--days", "1", "--up"], ["topics", str(FLIGHTS)], ["demo"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_topology_that_does_not_exist_ends_a_command_with_what_there_is(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOPOLOGY, "both")
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(app, command)
    assert told.exit_code == 2, told.output
    assert told.stderr.strip().splitlines() == ["TIDEMILL_TOPOLOGY: expected 'fused' or 'separate', came 'both'; correct it or unset it"]
    assert not list(tmp_path.iterdir()), "before anything was started"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("KAFKA__DEADLINE_S", "soon", "TIDEMILL_KAFKA__DEADLINE_S: expected a valid number, unable to parse string as a number, came 'soon'"),
        ("KAFKA__OPTIONS", '{"sasl.password": 4711}', "TIDEMILL_KAFKA__OPTIONS: sasl.password: expected a valid string, came int"),
        ("KAFKA__OPTIONS", '["4711"]', "TIDEMILL_KAFKA__OPTIONS: expected a valid dictionary, came list"),
        ("KAFKA__OPTIONS", "sasl.password=4711", "expected JSON in the variable of a group of settings"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named_and_options_are_kept_secret(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"TIDEMILL_{name}", value)
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert message in str(caught.value)
    assert "4711" not in str(caught.value) and "\n" not in str(caught.value)


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOPOLOGY, "")
    assert read_settings().topology is None

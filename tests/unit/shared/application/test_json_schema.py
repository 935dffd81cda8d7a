"""The JSON Schema says what the loader says: keys, durations as text, windows in both spellings."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tidemill.services.cli.__main__ import app
from tidemill.shared.application.json_schema import json_schema
from tidemill.shared.application.model import Application
from tidemill.shared.application.stream_definition import Stream

ROOT = Path(__file__).parents[4]


def test_names_every_key_and_the_defaults_as_the_file_has_them() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == set(Application.model_fields) and set(schema["required"]) == {"app", "owner", "partition_by"}
    stream = schema["$defs"]["Stream"]
    assert set(stream["properties"]) == {field.alias or name for name, field in Stream.model_fields.items()}
    assert stream["additionalProperties"] is False
    lateness = stream["properties"]["allowed_lateness"]
    assert lateness["type"] == "string" and lateness["default"] == "0s" and re.match(lateness["pattern"], "2h")
    retraining = schema["$defs"]["RetrainingPolicy"]["properties"]
    assert (retraining["cool_down"]["default"], retraining["schedule"]["default"]) == ("3d", "30d")


def test_windows_may_be_text() -> None:
    short, whole = json_schema()["$defs"]["Window"]["anyOf"]
    assert all(re.match(short["pattern"], text) for text in ("3h", "all", "90m")) and not re.match(short["pattern"], "always")
    assert "sliding" in whole["properties"]


@pytest.mark.parametrize("section", ["streams", "entities", "views", "models"])
def test_a_section_has_a_schema_of_its_own(section: str) -> None:
    printed = CliRunner().invoke(app, ["schema", "--section", section])
    assert printed.exit_code == 0
    schema: dict[str, Any] = json.loads(printed.output)
    (pattern,) = schema["patternProperties"]
    assert schema["additionalProperties"] is False and re.match(pattern, "payments") and not re.match(pattern, "Payments")
    assert bool(re.match(pattern, "owner")) == (section == "entities"), "else it is who answers for the file"
    assert ("owner" in schema.get("properties", {})) == (section != "entities")


def test_an_unknown_section_is_refused() -> None:
    with pytest.raises(ValueError, match="expected app or one of streams"):
        json_schema("things")


def test_a_mistake_is_told_with_file_and_line_and_ends_with_2(tmp_path: Path) -> None:
    text = (ROOT / "examples" / "payments" / "app.yaml").read_text()
    line = next(i for i, row in enumerate(text.splitlines(), 1) if "account_habit:" in row)
    (tmp_path / "app.yaml").write_text(text.replace("account_habit: {entity: account", "account_habit: {entity: person"))
    (tmp_path / "schemas").symlink_to(ROOT / "examples" / "payments" / "schemas")
    for command in (["check"], ["audit"], ["replay"]):
        told = CliRunner().invoke(app, [*command, str(tmp_path), *(["payments"] if command == ["replay"] else [])])
        assert told.exit_code == 2, told.output
        assert f"app.yaml:{line}: expected entity: one of the entities account, found person" in told.output.replace("\n", "")

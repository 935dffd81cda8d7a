"""What strangers wrote is shown, not obeyed, wherever it is printed."""

import io
import json

import pytest
from rich.table import Table

from tidemill.runs.safe_console import SafeConsole, visible_json
from tidemill.services.cli.dead_letters import cells
from tidemill.shared.dead_letters.letters import Letter, LetterPlace

HOSTILE = "key\x1b]0;owned\x07\x1b[2J\x9b1A\u202e\r\n\tend"
SHOWN = "key\\x1b]0;owned\\x07\\x1b[2J\\x9b1A\\u202e\\x0d"


def printed(renderable: object, **settings: object) -> str:
    out = io.StringIO()
    SafeConsole(file=out, width=100).print(renderable, **settings)  # type: ignore[arg-type]  # settings of `print`
    return out.getvalue()


def test_a_text_and_a_cell_of_a_table_send_nothing_to_the_terminal() -> None:
    table = Table("reason")
    table.add_row(HOSTILE)
    for shown in (printed(HOSTILE, markup=False), printed(table)):
        assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set(shown)
        assert "\\x1b[2J\\x9b1A\\u202e" in shown


@pytest.mark.parametrize("text", ["[/a]", "found [/b] and", "[", "[=]"])
def test_brackets_that_are_no_markup_are_printed_as_they_are(text: str) -> None:
    """rich raises MarkupError for a closing tag that nothing has opened: one field named so and nobody could list dead letters."""
    table = Table("reason")
    table.add_row(text)
    assert text in printed(table) and text in printed(text)


def test_a_dead_letter_is_listed_with_the_brackets_of_its_record() -> None:
    detail = "expected fields among id, found [red]x[/red]"
    record = {"source_topic": "t", "source_timestamp": 0, "stage": "ingestion", "reason": "invalid_json", "detail": detail}
    table = Table(*"1234567", box=None)
    table.add_row(*cells(Letter(LetterPlace(0, 1), record, "orders")))
    out = io.StringIO()
    SafeConsole(file=out, width=200).print(table)
    assert detail in out.getvalue()


def test_the_consoles_own_colours_stay() -> None:
    out = io.StringIO()
    SafeConsole(file=out, width=100, force_terminal=True, color_system="standard").print("[red]alarm[/red]")
    assert out.getvalue() == "\x1b[31malarm\x1b[0m\n"


def test_json_stays_the_same_json() -> None:
    text = json.dumps({"key": HOSTILE}, ensure_ascii=False)
    assert json.loads(visible_json(text)) == {"key": HOSTILE} and "\x9b" not in visible_json(text)

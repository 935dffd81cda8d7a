"""What strangers wrote is shown, not obeyed, wherever it is printed."""

import io
import json

from rich.table import Table

from tidemill.runs.safe_console import SafeConsole, visible_json

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


def test_the_consoles_own_colours_stay() -> None:
    out = io.StringIO()
    SafeConsole(file=out, width=100, force_terminal=True, color_system="standard").print("[red]alarm[/red]")
    assert out.getvalue() == "\x1b[31malarm\x1b[0m\n"


def test_json_stays_the_same_json() -> None:
    text = json.dumps({"key": HOSTILE}, ensure_ascii=False)
    assert json.loads(visible_json(text)) == {"key": HOSTILE} and "\x9b" not in visible_json(text)

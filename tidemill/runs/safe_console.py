"""What is printed on a terminal although strangers wrote it: keys of records, reasons of commands, names of columns."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.errors import MarkupError
from rich.segment import Segment
from rich.text import Text

_BIDIRECTIONAL = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
_VISIBLE = str.maketrans(_CONTROLS | {code: f"\\u{code:04x}" for code in _BIDIRECTIONAL})


class SafeConsole(Console):
    r"""A console that shows control characters of texts in place of sending them to the terminal, which would obey.

    An escape sequence in a record could clear the screen, forge a line, or answer into the shell. Colours and cursor movements of the console itself
    are no text, and stay.

    >>> SafeConsole(width=40).print("a\x1b[2Jb")
    a\x1b[2Jb
    """

    def render_str(self, text: str, **settings: Any) -> Text:
        """Return a text to print, before its width is measured; one whose brackets are no markup of rich's is printed as it is."""
        try:
            return super().render_str(text.translate(_VISIBLE), **settings)
        except MarkupError:
            return super().render_str(text.translate(_VISIBLE), **{**settings, "markup": False})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Return the segments of what is printed, without control characters in their texts."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(segment.text.translate(_VISIBLE), segment.style)


def visible_json(text: str) -> str:
    r"""Return JSON with those control characters escaped that JSON itself allows.

    >>> visible_json('"\x9b2J"')
    '"\\u009b2J"'
    """
    return text.translate({code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), *_BIDIRECTIONAL)})

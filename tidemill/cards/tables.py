"""A card's sections and tables."""

from collections.abc import Sequence
from html import escape


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; its cells are texts, not markup."""
    if not rows:
        return '<p class="none">Nothing to show.</p>'
    head = "".join(f"<th>{escape(header)}</th>" for header in headers) if any(headers) else ""
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def section(title: str, words: str, body: str, kind: str = "") -> str:
    """Return a section: title, words below it, and a body that is markup."""
    return f'<section class="{kind}"><h2>{escape(title)}</h2>{f"<p>{escape(words)}</p>" if words else ""}{body}</section>'

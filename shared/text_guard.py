"""What a command or a service is called with has to be text: a shell and a file system take any bytes; YAML, Kafka and the archive do not."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_PREFIX = "TIDEMILL_"


def strange_bytes(arguments: Sequence[str], environment: Mapping[str, str]) -> str | None:
    r"""Say which argument, setting or working folder holds bytes that are no UTF-8; None when all are text.

    Python keeps such a byte as half a pair of surrogates, over which one library after the other falls with an error of its own. What a setting holds
    is not shown: it may be a secret.

    >>> strange_bytes(["check", "caf\udce9"], {})
    'expected UTF-8 as argument 2, found caf\\xe9: rename it, or call it by a name in UTF-8'
    """
    for place, text, shown in _texts(arguments, environment):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            escaped = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            found = escaped if shown else f"another byte as character {error.start + 1}"
            return f"expected UTF-8 as {place}, found {found}: rename it, or call it by a name in UTF-8"
    return None


def _texts(arguments: Sequence[str], environment: Mapping[str, str]) -> Iterator[tuple[str, str, bool]]:
    """What is looked at: where it stands, the text, and whether it may be shown."""
    for number, argument in enumerate(arguments, 1):
        yield f"argument {number}", argument, True
    for name, value in environment.items():
        if name.startswith(_PREFIX):
            yield f"the setting {name!a}", name + value, False
    try:
        yield "the name of the working folder", str(Path.cwd()), True
    except OSError:
        # It was removed: whoever needs it says so.
        return

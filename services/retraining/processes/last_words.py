"""Why a training's process ended, by the log that it left."""

import re

_COLOURS = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_TRACEBACK = "Traceback (most recent call last):"
_LIBRARY_LINE = re.compile(r"\[?\d{4}-\d\d-\d\d[T ][\d:.,]+(Z|[+-]\d\d:?\d\d)?\s+(TRACE|DEBUG|INFO|WARN|ERROR)\b")
_MOST = 500


def last_words(text: str) -> str:
    r"""Return one line that says why a process ended.

    That is what the last exception says, all its lines in one: libraries written in Rust draw their errors as a tree whose last branch is the least
    of it. Without a traceback it is the last line that is no log line of such a library, whose threads go on writing after the error. Colours of a
    terminal are left out.

    >>> last_words("Traceback (most recent call last):\n  File ...\nOSError: no answer\n  \x1b[31mcaused by\x1b[0m: refused\n")
    'OSError: no answer; caused by: refused'
    """
    lines = [line.rstrip() for line in _COLOURS.sub("", text).splitlines()]
    if _TRACEBACK in lines:
        after = lines[len(lines) - lines[::-1].index(_TRACEBACK) :]
        begin = next((row for row, line in enumerate(after) if line and not line[0].isspace()), None)
        if begin is not None:
            end = next((row for row, line in enumerate(after) if row > begin and (not line or _LIBRARY_LINE.match(line))), len(after))
            return "; ".join(line.strip() for line in after[begin:end])[:_MOST]
    written = [line.strip() for line in lines if line.strip()]
    said = [line for line in written if not _LIBRARY_LINE.match(line)]
    return (said or written or ["no output"])[-1][:_MOST]

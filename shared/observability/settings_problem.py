"""What is wrong with a process's settings, said without showing what may be a secret."""

from pydantic import ValidationError

from tidemill.shared.observability.redaction import is_secret_name, redacted

_PREFIX, _LEVEL = "TIDEMILL_", "__"
_SHOWN = 80


def settings_problem(problem: ValidationError) -> str:
    """Name every variable that cannot be used: what was expected and what came.

    Of options, tokens, passwords and addresses with user information only the type is shown.
    """
    return "; ".join(dict.fromkeys(_one(error["loc"], error["msg"], error.get("input")) for error in problem.errors(include_url=False)))


def _one(place: tuple[int | str, ...], message: str, came: object) -> str:
    outer, inner = list(map(str, place[:2])), list(map(str, place[2:]))
    expected = message.replace("Input should be", "expected").replace("Field required", "expected a value, which is not set")
    where = [_PREFIX + _LEVEL.join(outer).upper(), *inner, expected]
    return f"{': '.join(where)}{_shown(outer + inner, came)}; correct it or unset it"


def _shown(place: list[str], came: object) -> str:
    if isinstance(came, dict | list) and len(place) < 2:
        return ""
    is_address = isinstance(came, str) and "://" in came and "@" in came
    hidden = (
        is_address or "options" in place or any(is_secret_name(part) or part == "commands" for part in place) or isinstance(came, dict | list | tuple)
    )
    return f", came {type(came).__name__ if hidden else redacted(repr(came))[:_SHOWN]}"

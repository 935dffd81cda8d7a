"""Numbers as people write them: what is only for the eye is taken off, and what it was is said."""

import polars as pl

_SPACES = " \u00a0\u202f'\u2019"
_SIGNED = r"[+-]?\s?[$€£¥]?\s?[+-]?"
_GROUPED = rf"^{_SIGNED}\d{{1,3}}([{_SPACES}]\d{{3}})+([.,]\d+)?\s?[$€£¥%]?$"
_BELOW_A_THOUSAND = rf"^{_SIGNED}\d{{1,3}}([.,]\d+)?\s?[$€£¥%]?$"
_PARENTHESISED = r"^\([^()-]*\d[^()-]*\)$"
_MINUS, _MINUS_BEHIND = "\u2212", r"^([\d.,]*\d)-$"
_MEASURED = r"^[+-]?[\d.,]*\d\s?\p{L}[\p{L}°²³/]{0,5}$|^[+-]?[\d.,]*\d\s?[°µ]\p{L}{1,3}$"
_CURRENCIES = "EUR|USD|GBP|CHF|JPY|CNY|INR|AUD|CAD|SEK|NOK|DKK|PLN|CZK|HUF|BRL|ZAR"
_IN_CURRENCY = rf"^({_CURRENCIES})\s?[+-]?[\d.,]*\d$"
_CLOCK = r"^\d{1,3}:[0-5]\d$", r"^\d{1,3}:[0-5]\d:[0-5]\d([.,]\d+)?$"


def plainly_written(values: pl.Series) -> tuple[pl.Series, tuple[str, ...]]:
    """Return numbers without what only people read in them, and what that was: other ways to write a minus, spaces or apostrophes between thousands.

    Nothing is noted where there is none of it. What is not a number comes back as it was, or is none afterwards either.
    """
    notes: tuple[str, ...] = ()
    given = values.drop_nulls()
    negative = given.str.contains(_PARENTHESISED)
    if bool(negative.any()) and not bool(negative.all()):
        values, notes = values.str.replace(r"^\((.*)\)$", "-${1}"), ("numbers in parentheses are negative",)
    behind = given.str.contains(_MINUS_BEHIND) | given.str.starts_with(_MINUS)
    if bool(behind.any()) and not bool(behind.all()):
        values = values.str.replace(_MINUS, "-", literal=True).str.replace(_MINUS_BEHIND, "-${1}")
        notes = (*notes, "a minus is read behind its number as well, and as \u2212")
    given = values.drop_nulls()
    grouped = given.str.contains(_GROUPED)
    rest = given.filter(~grouped)
    # Of one length all of them, they are codes.
    differ = len(rest) > 0 or given.str.len_chars().n_unique() > 1
    if bool(grouped.any()) and differ and bool(rest.str.contains(_BELOW_A_THOUSAND).all()):
        values = values.str.replace_all(rf"[{_SPACES}](\d{{3}})", "${1}")
        notes = (*notes, "spaces or apostrophes part thousands")
    return values, notes


def without_unit_word(values: pl.Series) -> tuple[pl.Series, str] | None:
    """Return numbers without the unit, or the currency's code before them, that all of them have, and what it is; None where there is none."""
    given = values.drop_nulls()
    before, behind = given.str.contains(_IN_CURRENCY), given.str.contains(_MEASURED)
    for fits, pattern in ((before, r"^[A-Z]{3}"), (behind, r"[^\d\s.,]+$")):
        if bool(fits.all()):
            words = given.str.extract(f"({pattern})")
            if words.n_unique() == 1:
                return values.str.replace(rf"\s?{pattern}" if pattern.endswith("$") else rf"{pattern}\s?", ""), str(words[0])
    return None


def seconds_of_clocks(values: pl.Series) -> pl.Series | None:
    """Return the seconds of texts such as 08:30 or 36:00:12.5; None where one is none, or written in another way than the others.

    >>> seconds_of_clocks(pl.Series(["08:30", None, "120:01"])).to_list()
    [30600.0, None, 432060.0]
    """
    given = values.drop_nulls()
    if not any(bool(given.str.contains(look).all()) for look in _CLOCK):
        return None
    parts = [values.str.extract(rf"^{before}(\d+)").cast(pl.Float64) for before in ("", r"\d+:")]
    seconds = values.str.extract(r"^\d+:\d+:([\d.,]+)$").str.replace(",", ".", literal=True).cast(pl.Float64).fill_null(0.0)
    return (3600 * parts[0] + 60 * parts[1] + seconds).alias(values.name)

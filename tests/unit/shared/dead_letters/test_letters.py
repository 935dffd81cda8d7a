"""Which dead letters a selection means, and what is said where it means none."""

from tidemill.shared.dead_letters.letters import Letter, LetterPlace, Selection, absent_reasons

LETTERS = [Letter(LetterPlace(0, offset), {"reason": reason}, "orders") for offset, reason in enumerate(["expectation", "late", "expectation"])]


def test_a_reason_that_no_letter_has_is_told_with_those_that_there_are() -> None:
    asked = Selection(reasons=frozenset({"expectations", "late"}))
    there = "there are: expectation (2), late (1)"
    assert absent_reasons(asked, LETTERS) == f"no dead letter has the reason expectations (did you mean expectation?); {there}"
    assert absent_reasons(Selection(reasons=frozenset({"x"})), LETTERS) == f"no dead letter has the reason x; {there}"
    assert absent_reasons(asked, []) == "", "nothing tells whether it is a slip"
    assert absent_reasons(Selection(reasons=frozenset({"late"})), LETTERS) == ""

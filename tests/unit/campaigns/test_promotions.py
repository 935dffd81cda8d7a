"""Verdicts of a campaign that is ended and goes on."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from campaigns.promotions import NOTHING, Verdict, keep, read_kept


def test_a_campaign_goes_on_with_the_verdicts_that_it_kept(tmp_path: Path) -> None:
    file = tmp_path / "new" / "kept.jsonl"
    assert read_kept(file) == {}
    null = Verdict(56_000, 13, 12, 11, 1, 0, 0.0023, 1, 1, 2, 2, Counter({"range orders.temp": 2}))
    untouched = replace(NOTHING, rows=400, streams=1)
    keep(file, "null", 3, null)
    keep(file, "nothing", 0, untouched)
    kept = read_kept(file)
    assert kept == {("null", 3): null, ("nothing", 0): untouched}
    assert (NOTHING + kept["null", 3] + kept["nothing", 0]).roots == Counter({"range orders.temp": 2})

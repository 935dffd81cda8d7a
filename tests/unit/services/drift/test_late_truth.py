"""Silence that is a label, and corrections, count in health as they do for scikit-learn on the last that is known of each request."""

from pathlib import Path

import pandas as pd
import pytest
from sklearn import metrics as oracle

from tests.unit.services.drift.stream import DAY, START, season, shop
from tests.unit.services.drift.test_task import Pipeline, decoded


def test_negatives_by_time_out_and_corrections_count_in_health(tmp_path: Path) -> None:
    """Truths that say yes come as labels, silence says no; some of that silence is corrected, the same day or two days later."""
    rows = season(days=8, drifting=8, delay_ms=3_600_000)
    corrected = []
    for i, one in enumerate(rows.outcomes):
        if one["label"] == 0.0:
            one |= {"status": "timeout", "label_event_time": None, "delay_ms": None}
            if i % 7 == 0:
                later = one["journal_time"] + (60_000 if i % 2 else 2 * DAY)
                corrected.append(one | {"status": "corrected", "label": 1.0, "revision": 1, "journal_time": later})
    known = sorted([*rows.outcomes, *corrected], key=lambda one: (one["journal_time"], one["revision"]))
    # A journal offset of their own: corrections follow from records of their own.
    places = {id(one): 10 * one["journal_offset"] for one in rows.outcomes}
    last = 0
    for one in known:
        last = max(last + 1, places.get(id(one), 0))
        one["journal_offset"] = last
    for one in [*rows.vectors, *rows.predictions]:
        name = "_journal_offset" if "_journal_offset" in one else "journal_offset"
        one[name] *= 10
    for one in known:
        one["request_journal_offset"] *= 10
    rows.outcomes, rows.end_ms, rows.end_offset = known, known[-1]["journal_time"], last
    pipeline = Pipeline(shop(tmp_path), rows)
    said = pipeline.run(2)
    assert pipeline.run(2, restarts=(6, 13, 20), snapshot_every=3) == said
    _, health = decoded(pipeline, said)
    frame = pd.DataFrame(known)
    assert (frame.status != "labelled").mean() > 0.4
    seen, passed_over = 0, 0
    for one in health:
        mine = frame[(frame.journal_time >= one["window_start"]) & (frame.journal_time < one["window_end"])]
        final = mine.groupby("request_journal_offset").last()
        metrics = one["metrics"]
        assert metrics["labels"] == len(final) and metrics["corrections"] == (mine.revision > 0).sum() and metrics["timeouts"] == 0
        if final.label.nunique() == 2:
            seen += 1
            assert metrics["auc"] == pytest.approx(oracle.roc_auc_score(final.label, final.score))
            assert metrics["log_loss"] == pytest.approx(oracle.log_loss(final.label, final.score))
            assert metrics["positive_rate"] == pytest.approx(final.label.mean())
        # Labels take an hour, which is their horizon: all corrections of the champion's are too late for detectors on single labels.
        late = (mine.revision > 0) & (mine.variant == "champion")
        passed_over += int(late.sum())
        assert metrics["corrections_passed_over"] == late.sum()
    assert seen >= 8 and passed_over > 10 and health[0]["window_start"] == START

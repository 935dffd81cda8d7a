"""The report is one well-formed file that needs no network and shows what it was given."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import pytest

from tidemill.demo.report import Mark, ReportData, Table, write_report
from tidemill.demo.summary import slices_table
from tidemill.runs.watch import RunState

WEEK = 7 * 86_400_000
START = 1_357_000_000_000


def report_data(seed: int = 0) -> ReportData:
    generator = np.random.default_rng(seed)
    weeks = START + WEEK * np.arange(52, dtype=np.float64)
    served = 0.71 + 0.03 * np.sin(np.arange(52) / 5) + generator.normal(0, 0.012, 52)
    served[:5] = np.nan
    static = served - np.linspace(0, 0.06, 52) + generator.normal(0, 0.008, 52)
    alarms = [Mark(int(time), "alarm", "mean loss rose from 0.16 to 0.21") for time in generator.uniform(weeks[6], weeks[-1], 70)]
    others = [Mark(int(weeks[i]), "promotion", f"v{i} <lightgbm>") for i in (5, 14, 22, 37)] + [
        Mark(int(weeks[i]), "refusal", "p 0.31") for i in (18, 29)
    ]
    features = [f"route_delay__mean_{i}h" for i in range(30)] + ["hour", "weather__temp"]
    psi = generator.lognormal(-2.5, 1, (32, 52))
    psi[:, :5] = np.nan
    return ReportData(
        title="Tidemill on New York's flights of 2013",
        headline="Served AUC 0.713 against 0.681 of the first model kept all year: +0.032 [0.027, 0.037].",
        tiles=[
            ("served AUC", "0.713", "first model 0.681"),
            ("predictions", "336,421", "0 lost, 0 twice"),
            ("p99 latency", "84 ms", "at 1,000 events/s"),
        ],
        metric="AUC",
        begins_ms=weeks,
        served=served,
        static=static,
        refit=served - 0.005,
        marks=alarms + others,
        label_delay_min=generator.lognormal(5.1, 0.5, 5000),
        latency_ms=generator.lognormal(3.2, 0.5, 5000),
        features=features,
        psi_weeks_ms=weeks,
        psi=psi,
        models=Table(["version", "family", "verdict", "AUC"], [["v5", "lightgbm", "promoted", "0.712"], ["v9", "<b>", "refused", "0.690"]]),
        incidents=Table(["root", "likely cause"], [["column:departures.distance", "Column <departures.distance> comes empty"]]),
        bad_records=Table(["what", "put in", "found in"], [["negative distance", "40", "rejected: 40"]]),
        summary=Table(["figure", "value"], [["events in", "673,552"]]),
        audit=Table(["check", "compared", "mismatches"], [["vectors", "336,421", "0"]]),
    )


def test_is_one_file_without_network(tmp_path: Path) -> None:
    path = write_report(tmp_path / "new", report_data())
    page = path.read_text()
    assert not re.search(r"(src|href)=|url\(|https?://|@import", page) and len(page) < 2_000_000
    for svg in re.findall(r"<svg.*?</svg>", page, re.S):
        ElementTree.fromstring(svg)
    assert len(re.findall(r"<svg", page)) == 4
    assert "Column &lt;departures.distance&gt; comes empty" in page
    assert "v5 &lt;lightgbm&gt;" in page and "&lt;b&gt;" in page and "<b></td>" not in page
    assert page.count('class="curve refit"') == 1 and "always refit 0." in page
    assert page.count('class="mark alarm"') == 70 and page.count('class="mark promotion"') == 4 and page.count('class="mark refusal"') == 2
    assert page.count('class="heat h') + page.count('class="heat none') == 32 * 52 + 5


def test_says_so_when_there_is_nothing(tmp_path: Path) -> None:
    none = np.full(52, np.nan)
    empty = replace(
        report_data(),
        served=none,
        static=none,
        refit=none,
        marks=[],
        label_delay_min=np.array([]),
        latency_ms=np.array([]),
        psi=np.full((32, 52), np.nan),
    )
    page = write_report(tmp_path, replace(empty, models=Table(["version"], []), incidents=Table(["root"], []))).read_text()
    assert "<svg" not in page and page.count('class="none"') == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"static": np.zeros(3)}, "one value per block"),
        ({"refit": np.zeros(3)}, "one value per block"),
        ({"psi": np.zeros((2, 2))}, "expected psi of shape"),
        ({"audit": Table(["a", "b"], [["1"]])}, "expected 2 cells"),
    ],
)
def test_refuses_what_does_not_fit(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_report(tmp_path, replace(report_data(), **change))  # type: ignore[arg-type]  # changes of any type, by name


def test_slices_have_their_intervals_and_small_ones_are_not_judged(tmp_path: Path) -> None:
    seen = RunState()
    own = {
        "requests": 30.0,
        "labels": 900.0,
        "loss": 0.5,
        "loss_low": 0.4,
        "loss_high": 0.6,
        "accuracy": 0.8,
        "accuracy_low": 0.7,
        "accuracy_high": 0.9,
    }
    small = {"slice": "country=is", "judged": False, "values_judged": False, "metrics": {"requests": 1.0, "labels": 20.0}}
    slices = [{"slice": "country=<de>", "judged": True, "values_judged": True, "metrics": own}, small]
    seen.health = [{"model": "m", "slices": []}, {"model": "m", "slices": slices}]
    page = write_report(tmp_path, replace(report_data(), slices=slices_table(seen))).read_text()
    assert "country=&lt;de&gt;" in page and "0.5 (0.4 to 0.6)" in page and "0.8 (0.7 to 0.9)" in page and "not judged" in page


def test_dates_stay_whole_sentences_have_room_and_names_may_break(tmp_path: Path) -> None:
    sentence = "Column weather.wind_speed comes in other units since 2013-02-09: <100 times> as large as the model learned."
    row = ("resolved 2013-02-13", "1,204", "column:weather.wind_speed", sentence)
    page = write_report(tmp_path, replace(report_data(), incidents=Table(("status", "findings", "root", "cause"), [row]))).read_text()
    assert '<td>resolved <span class="n">2013-02-13</span></td><td class="n">1,204</td><td>column:<wbr>weather.wind_speed</td>' in page
    shown = escape(sentence).replace("2013-02-09", '<span class="n">2013-02-09</span>')
    assert f'<td class="w">{shown}</td>' in page

"""`tidemill init`: the application that it writes passes `check`, and its data are the table; what cannot work is refused, and nothing written."""

import json
from pathlib import Path

import fastavro
import numpy as np
import pandas as pd
import polars as pl
import pytest
from typer.testing import CliRunner

from tests.unit.tidemill.init.tables import NOW_MS, csv, customers, rare, river_table, wide
from tidemill.init.init import InitOptions, InitResult, init
from tidemill.init.roles import Roles
from tidemill.init.timeline import LabelDelay
from tidemill.replay.dataset_files import FileOptions, read_folder
from tidemill.services.cli.__main__ import app
from tidemill.shared.application.planning import load_plan
from tidemill.shared.application.values import parse_duration


def made(tmp_path: Path, frame: pd.DataFrame, label: str, delay: str | None = None, **roles: object) -> InitResult:
    parsed = None if delay is None else LabelDelay.parse(delay)
    return init(InitOptions(tmp_path / "app", csv(tmp_path, frame), Roles(label, **roles), delay=parsed), NOW_MS)  # type: ignore[arg-type]  # roles of any type, by name


def test_a_messy_table_becomes_an_application_that_check_takes(tmp_path: Path) -> None:
    frame = customers()
    file = csv(tmp_path, frame, sep=";", encoding="utf-8-sig")
    arguments = [
        str(tmp_path / "shop"),
        "--from-table",
        str(file),
        "--label",
        "gekauft",
        "--time",
        "Zeit",
        "--entity",
        "Kunde-Nr",
        "--label-delay",
        "6h",
    ]
    result = CliRunner().invoke(app, ["init", *arguments])
    assert result.exit_code == 0, result.output
    for said in ("CSV separated by ';', 1,000 rows", "binary", "ja is 1, by its name", "tidemill check", "tidemill backtest", "tidemill up"):
        assert said in result.output
    plan = load_plan(tmp_path / "shop")
    model = plan.models["gekauft"]
    assert dict(model.settings.label.values) == {"nein": 0, "ja": 1}
    assert {"Grosse_cm", "column_3", "order", "VIP", "geboren", "Betrag", "zuletzt_gesehen_age_days"} <= set(model.features)
    assert not {"konstant", "uuid", "Kunde_Nr", "leer"} & set(model.features)
    assert {"kunde_nr_recent__count_all", "label_rate__all_30events"} & set(model.features)
    # The mapping of names is in the schema.
    fields = {field["name"]: field for field in json.loads((tmp_path / "shop/schemas/event.avsc").read_text())["fields"]}
    assert fields["Grosse_cm"]["doc"] == "Größe (cm)" and fields["column_3"]["doc"] == "名前"
    for schema in ("event", "label"):
        fastavro.parse_schema(json.loads((tmp_path / f"shop/schemas/{schema}.avsc").read_text()))


def test_the_data_are_the_table(tmp_path: Path) -> None:
    frame = customers(200)
    frame = frame.iloc[np.random.default_rng(1).permutation(200)].reset_index(drop=True)
    result = made(tmp_path, frame, "gekauft", "6h", time="Zeit", identity="uuid")
    assert any("go backwards" in warning for warning in result.warnings)
    expected = frame.sort_values("Zeit")
    events, labels = (pl.read_parquet(tmp_path / f"app/data/{name}.parquet") for name in ("events", "labels"))
    assert events["uuid"].to_list() == expected["uuid"].tolist() and events["Betrag"].to_list() == [
        float(text.replace(",", ".")) for text in expected["Betrag"]
    ]
    asked = pd.to_datetime(expected["Zeit"]).dt.tz_localize(None).dt.to_pydatetime().tolist()
    assert events["Zeit"].to_list() == asked
    assert labels["gekauft"].to_list() == expected["gekauft"].tolist()
    assert labels["label_time"].to_list() == [at + pd.Timedelta(hours=6) for at in asked]
    tables = read_folder(load_plan(tmp_path / "app"), tmp_path / "app/data", FileOptions())
    assert {name: len(table) for name, table in tables.items()} == {"events": 200, "labels": 200}


def test_without_times_the_row_number_is_time_and_delays_count_rows(tmp_path: Path) -> None:
    result = made(tmp_path, river_table("Bananas", "is_banana", 1_000), "is_banana", "500")
    times = result.written.times
    assert times.step_ms is not None and (np.diff(times.asked_ms) == times.step_ms).all()
    assert (times.labelled_ms == times.asked_ms + 500 * times.step_ms).all()
    assert times.asked_ms[-1] < NOW_MS and times.span_ms > 50 * 86_400_000
    labels = pl.read_parquet(tmp_path / "app/data/labels.parquet")
    assert labels["event_id"].to_list()[:2] == ["row-0001", "row-0002"]


@pytest.mark.parametrize("rows", [120, 1_000, 5_300])
def test_policies_leave_room_to_learn_and_to_judge(tmp_path: Path, rows: int) -> None:
    result = made(tmp_path, river_table("Bananas", "is_banana", rows), "is_banana")
    policy, days = result.written.policies, result.written.times.span_ms / 86_400_000
    judged = rows / days * policy.holdout_days
    assert policy.bootstrap_labels <= 0.5 * rows and policy.gate_min_rows <= max(20, judged)
    assert policy.bootstrap_labels - 2 * judged >= policy.min_rows
    assert policy.holdout_days * 86_400_000 >= 7 * parse_duration(policy.block)
    _has_stages(tmp_path / "app", days)


def _has_stages(app: Path, days: float) -> None:
    """The stages are on, can be baked through within the table's own time and labels, and leave room for evidence."""
    (model,) = load_plan(app).models.values()
    stages, block = model.settings.stages, model.settings.gate.block
    assert stages.shadow is not None and stages.canary is not None and stages.refits == "canary_unless_drift" and stages.ab is None
    assert stages.shadow.duration >= 7 * block and stages.canary.duration >= 3 * block
    assert 28 * block <= stages.longest and stages.shadow.duration + stages.canary.duration <= max(0.5 * days * 86_400_000, 10_000)
    assert 20 <= stages.canary.labels <= stages.shadow.labels <= 200


def test_where_a_class_is_rare_a_fifth_of_the_table_judges(tmp_path: Path) -> None:
    """An eighth had five of the positives: a model as good was refused five times for want of evidence."""
    chosen = made(tmp_path, rare(20_000), "fraud").written.policies
    plan = load_plan(tmp_path / "app").models["fraud"]
    step_s = pl.read_parquet(tmp_path / "app" / "data" / "events.parquet")["event_time"].diff().drop_nulls()[0].total_seconds()
    judged = chosen.holdout_days * 86_400 / step_s
    assert judged * 0.002 >= 7.5 and 3 * judged <= chosen.bootstrap_labels < 20_000 * 0.7
    assert plan.settings.training.min_positives == 3


def test_a_table_of_hours_is_judged_in_minutes(tmp_path: Path) -> None:
    frame = river_table("Bananas", "y", 2_000)
    frame["at"] = pd.date_range("2025-06-01", periods=len(frame), freq="5s")
    policy = made(tmp_path, frame, "y", "1m", time="at").written.policies
    assert policy.holdout_days < 0.05 and parse_duration(policy.block) <= 180_000 and not policy.short
    _has_stages(tmp_path / "app", 2_000 * 5 / 86_400)


def test_what_is_probably_wrong_is_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = 800
    y = rng.random(rows) < 0.03
    frame = pd.DataFrame(
        {
            "at": pd.date_range("2024-01-01", periods=rows, freq="h"),
            "x": rng.normal(size=rows),
            "leak": y * 1.0 + rng.normal(size=rows) * 0.01,
            "closed": pd.date_range("2024-01-01", periods=rows, freq="h") + pd.Timedelta(days=3),
            "one": 1,
            "nothing": None,
            "customer_id": rng.permutation(rows),
            "y": y,
        }
    )
    frame = pd.concat([frame, frame.tail(80)], ignore_index=True)
    said = "\n".join(made(tmp_path, frame, "y", time="at").warnings)
    for expected in (
        "column 'leak' tells the label almost alone (AUC ",
        "--exclude leak",
        "column 'closed' lies after the request",
        "column 'one' is no feature: it is 1 in every row",
        "column 'nothing' is left out: it has no value in any row",
        "80 of 880 rows (9%) are copies of another row",
        "the class 'true' has",
    ):
        assert expected in said
    assert "column 'x'" not in said


def test_ids_are_no_features(tmp_path: Path) -> None:
    generator, rows = np.random.default_rng(0), 300
    frame = river_table("Bananas", "y", rows).assign(row=range(rows), ticket_id=generator.permutation(rows) * 7)
    # Numbers of rows that were shuffled, or of which some were dropped and two have changed places; amounts that all differ are none.
    gaps = np.sort(generator.choice(450, rows, replace=False))
    gaps[[7, 8]] = gaps[[8, 7]]
    frame = frame.assign(shuffled=generator.permutation(rows) + 5, gaps=gaps, cents=generator.choice(100_000, rows, replace=False))
    frame = frame.assign(climbing=np.sort(frame.cents))
    result = made(tmp_path, frame, "y")
    assert {one.column.name for one in result.written.profile.columns if not one.is_feature} == {"row", "ticket_id", "shuffled", "gaps"}
    assert sum("seems to be an id" in warning for warning in result.warnings) == 4


def test_a_strong_column_is_no_leak_and_noise_is_none(tmp_path: Path) -> None:
    frame = wide(columns=4)
    frame["strong"] = frame["y"] + np.random.default_rng(1).normal(size=len(frame)) * 0.5
    result = made(tmp_path, frame, "y")
    alone = {one.name: one.alone or 0 for one in result.written.profile.columns}
    assert 0.85 < alone["strong"] < 0.97 and 0.4 < alone["f3"] < 0.6
    assert not [warning for warning in result.warnings if "almost alone" in warning]


def test_too_few_of_a_class_wait_instead_of_failing(tmp_path: Path) -> None:
    result = made(tmp_path, rare(), "fraud")
    assert result.written.policies.bootstrap_labels > 6_000
    assert any("a first model needs about" in warning for warning in result.warnings)


def test_expectations_hold_on_the_table_and_say_what_was_seen(tmp_path: Path) -> None:
    made(tmp_path, customers(), "gekauft", time="Zeit", entities=("Kunde-Nr",))
    plan = load_plan(tmp_path / "app")
    rows = read_folder(plan, tmp_path / "app/data", FileOptions())["events"].columns
    batch = rows.combine_chunks().to_batches()[0]
    checks = plan.streams["events"].expectations
    assert len(checks) >= 5
    for check in checks:
        assert all(check.check.evaluate(batch).to_pylist()), check.name
    text = (tmp_path / "app/app.yaml").read_text()
    assert "in 1,000 rows" in text and "no value in" in text


BANANAS = river_table("Bananas", "y", 120).rename(columns={"1": "width", "2": "height"})


@pytest.mark.parametrize(
    ("frame", "options", "expected"),
    [
        (BANANAS, ["--label", "heigth"], "did you mean 'height'"),
        (BANANAS, ["--label", "y", "--time", "when"], "--time: expected a column of the table, found 'when'; it has width, height, y"),
        (BANANAS.assign(y=1), ["--label", "y"], "expected at least two different values, found 1 in all 120 rows"),
        (BANANAS.assign(y=None), ["--label", "y"], "label 'y': expected values, found none in 120 rows"),
        (BANANAS, ["--label", "width", "--kind", "binary"], "expected two different values (kind: binary), found 120"),
        (BANANAS.assign(y="a"), ["--label", "y", "--kind", "regression"], "expected at least two different values"),
        (BANANAS.assign(y=["a", "b"] * 60), ["--label", "y", "--kind", "regression"], "expected numbers (kind: regression), found texts such as 'a'"),
        (BANANAS.assign(i=[1, 1] * 60), ["--label", "y", "--id", "i"], "expected another value in each row, found 119 that repeat one before"),
        (BANANAS.assign(i=pd.Series([None, *["x"] * 119])), ["--label", "y", "--id", "i"], "expected a value in every row, found none in 1"),
        (BANANAS.assign(t=range(120)), ["--label", "y", "--time", "t"], "expected times (ISO 8601"),
        (BANANAS.assign(t="1949-01-01"), ["--label", "y", "--time", "t"], "expected times in 1970 or later"),
        (BANANAS.assign(t="9999-12-31"), ["--label", "y", "--time", "t"], "expected times before the end of next year"),
        (BANANAS.assign(t="01/02/2024"), ["--label", "y", "--time", "t"], "day and month cannot be told apart; say --time-format"),
        (BANANAS.assign(t="soon"), ["--label", "y", "--time", "t"], "expected times, found texts such as 'soon'"),
        (BANANAS, ["--label", "y", "--label-time", "width"], "expected --time as well"),
        (BANANAS, ["--label", "y", "--label-delay", "soon"], "a duration such as 36h, or a number of rows such as 500"),
        (BANANAS, ["--label", "y", "--label-delay", "9" * 20], "at most 999,999,999 rows"),
        (BANANAS, ["--label", "y", "--label-delay", "9" * 9], "expected labels within a century of their rows"),
        (BANANAS, ["--label", "y", "--label-delay", "99999999d"], "a duration of at most 36525d, a century"),
        (
            BANANAS,
            ["--label", "y", "--entity", "width"],
            "--entity 'width': expected texts, whole numbers or truth values, found numbers with fractions",
        ),
        (
            BANANAS.assign(y=[1e308, -1e308] * 60),
            ["--label", "y"],
            "expected classes of at most 200 characters, found one of 310: say --kind regression",
        ),
        (BANANAS.assign(y=[1e308, -1e308, 5e307] * 40), ["--label", "y"], "label 'y': expected numbers of at most 3.4e+38, which is what models"),
        (BANANAS.assign(y=["a" * 500, "b" * 500] * 60), ["--label", "y"], "expected classes of at most 200 characters, found one of 500"),
        (BANANAS, ["--label", "y", "--exclude", "y"], "--exclude: expected another column than the label"),
        (BANANAS, ["--label", "y", "--entity", "y"], "--entity: expected another column than the label 'y'"),
        (BANANAS.assign(i=1), ["--label", "y", "--entity", "i", "--exclude", "i"], "--exclude: expected another column than the entity 'i'"),
        (
            BANANAS.assign(y=["oops", *(f"{n}.5" for n in range(119))]),
            ["--label", "y"],
            "label 'y', row 1: expected a number as nearly all others are, found 'oops'",
        ),
        (BANANAS.rename(columns={"y": "y:z"})[["y:z"]], ["--label", "z"], "has one column, 'y:z': if another mark parts columns"),
    ],
)
def test_what_cannot_work_is_refused_in_words(tmp_path: Path, frame: pd.DataFrame, options: list[str], expected: str) -> None:
    result = CliRunner().invoke(app, ["init", str(tmp_path / "app"), "--from-table", str(csv(tmp_path, frame)), *options], terminal_width=400)
    assert result.exit_code == 2, result.output
    assert expected in " ".join(result.output.replace("│", "").split()) and "Traceback" not in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.csv"]


@pytest.mark.parametrize("word", ["null", "True", "FALSE"])
def test_columns_that_are_words_of_yaml_have_a_name(tmp_path: Path, word: str) -> None:
    frame = BANANAS.rename(columns={"width": word}).assign(shop=["x", "y", "z"] * 40)
    for part in ("feature", "entity", "label"):
        (tmp_path / part).mkdir()
    made(tmp_path / "feature", frame, "y")
    made(tmp_path / "entity", frame.rename(columns={word: "w", "shop": word}), "y", entities=[word])
    made(tmp_path / "label", frame.rename(columns={word: "w", "y": word}), word)
    assert f"{word}_2" in load_plan(tmp_path / "feature/app").models["y"].features
    assert [view.name for view in load_plan(tmp_path / "entity/app").views if view.name.startswith(f"{word.lower()}_2_recent")]
    assert list(load_plan(tmp_path / "label/app").models) == [f"c_{word.lower()}"]


def test_whole_numbers_with_gaps_name_entities_and_ids(tmp_path: Path) -> None:
    """pandas writes 3.0 for 3 in a column with a gap, and for any whole number that was once a float."""
    frame = BANANAS.assign(shop=np.where(np.arange(120) % 10 == 0, np.nan, np.arange(120) % 7.0), nr=np.arange(120.0))
    made(tmp_path, frame, "y", entities=["shop"], identity="nr")
    assert "shop_recent" in [view.name for view in load_plan(tmp_path / "app").views]
    fields = {field["name"]: field["type"] for field in json.loads((tmp_path / "app/schemas/event.avsc").read_text())["fields"]}
    assert fields["nr"] == "long" and fields["shop"] == ["null", "long"]


def test_two_fractions_are_two_classes(tmp_path: Path) -> None:
    """They were cut to whole numbers, 0 and 0, of which none was a label."""
    made(tmp_path, BANANAS.assign(y=[0.2, 0.7] * 60), "y")
    plan = load_plan(tmp_path / "app")
    label = plan.models["y"].label
    (rows,) = read_folder(plan, tmp_path / "app/data", FileOptions())["labels"].columns.combine_chunks().to_batches()
    labels, good = label.labels(label.value.evaluate(rows))
    assert good.all() and labels.tolist() == [0.0, 1.0] * 60


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    made(tmp_path, BANANAS, "y")
    before = (tmp_path / "app/app.yaml").read_bytes()
    result = CliRunner().invoke(app, ["init", str(tmp_path / "app"), "--from-table", str(tmp_path / "table.csv"), "--label", "y"])
    assert result.exit_code == 2 and "expected a new or an empty folder" in " ".join(result.output.split())
    assert (tmp_path / "app/app.yaml").read_bytes() == before


def visits(rows: int, **few: int) -> pd.DataFrame:
    """Three frequent answers, and others in as many rows as is said."""
    generator = np.random.default_rng(5)
    answers = generator.choice(["gone", "here", "moved"], rows)
    places = iter(generator.permutation(rows).tolist())
    for name, count in few.items():
        answers[[next(places) for _ in range(count)]] = name
    return pd.DataFrame({"when": pd.date_range("2025-01-01", periods=rows, freq="37min"), "x": generator.normal(size=rows), "answer": answers})


def test_a_few_rows_of_another_class_do_not_keep_a_table_without_a_model(tmp_path: Path) -> None:
    frame = visits(1_500, oops=1, odd=2)
    result = made(tmp_path, frame, "answer", time="when")
    assert list(result.written.question.classes) == ["gone", "here", "moved"]
    assert result.written.policies.bootstrap_labels < 1_000 and not result.written.policies.short
    for name, words in (("oops", "1 row"), ("odd", "2 rows")):
        assert any(f"the class '{name}' has {words}, too few to learn from" in warning for warning in result.warnings)
    plan = load_plan(tmp_path / "app")
    assert plan.models["answer"].kind.classes == ("gone", "here", "moved")
    told = pl.read_parquet(tmp_path / "app" / "data" / "labels.parquet")
    assert sorted(told["answer"].to_list()) == sorted(name for name in frame["answer"] if name not in ("oops", "odd"))
    assert len(pl.read_parquet(tmp_path / "app" / "data" / "events.parquet")) == 1_500


def test_of_two_classes_and_a_slip_the_two_are_asked_for(tmp_path: Path) -> None:
    frame = visits(1_500, oops=1)
    frame["answer"] = frame["answer"].replace({"moved": "gone"})
    question = made(tmp_path, frame, "answer", time="when").written.question
    assert (question.kind, sorted(question.classes)) == ("binary", ["gone", "here"])


def test_rare_classes_that_are_a_part_of_the_question_stay(tmp_path: Path) -> None:
    result = made(tmp_path, visits(1_500, a=8, b=8, c=8), "answer", time="when")
    assert {"a", "b", "c"} <= set(result.written.question.classes), "together more than a hundredth"
    assert any("a first model needs about" in warning for warning in result.warnings)


def test_classes_that_are_learned_are_not_declared_and_every_label_is_kept(tmp_path: Path) -> None:
    frame = visits(1_500, lost=4)
    frame.to_csv(tmp_path / "table.csv", index=False)
    options = [str(tmp_path / "app"), "--from-table", str(tmp_path / "table.csv"), "--label", "answer"]
    said = CliRunner().invoke(app, ["init", *options, "--classes", "learned"])
    assert said.exit_code == 0, said.output
    assert "it is learned once it has training.min_positives labels" in " ".join(said.output.split())
    model = load_plan(tmp_path / "app").models["answer"]
    assert model.learns_classes and model.settings.fallback.default is None and not any("label_rate" in name for name in model.features)
    labels = pl.read_parquet(tmp_path / "app" / "data" / "labels.parquet")["answer"]
    assert labels.value_counts().sort("answer").rows() == pl.Series("answer", frame["answer"]).value_counts().sort("answer").rows()
    refused = CliRunner().invoke(app, ["init", *options, "--classes", "learned", "--kind", "regression"])
    assert refused.exit_code == 2 and "expected --kind multiclass, found regression" in " ".join(refused.output.split())

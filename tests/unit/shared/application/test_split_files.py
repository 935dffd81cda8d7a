"""Applications in several files, each part with an owner; mistakes name the file they stand in."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.many_models import write_application
from tidemill.services.cli.__main__ import app
from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.planning import load_plan

FLIGHTS = Path(__file__).parents[4] / "examples" / "flights"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_application(tmp_path / "app", 3)


def edit(file: Path, old: str, new: str) -> int:
    """Replace text; returns the line (from 1) it stands on."""
    text = file.read_text()
    assert text.count(old) == 1, old
    file.write_text(text.replace(old, new))
    return text[: text.index(old)].count("\n") + 1


def test_every_part_has_an_owner_its_own_its_files_or_the_applications(folder: Path) -> None:
    edit(folder / "models" / "risk_001.yaml", "  owner: team-01@example.org\n", "")
    edit(folder / "models" / "risk_002.yaml", "  owner: team-02@example.org\n", "")
    (folder / "models" / "risk_002.yaml").write_text("owner: second-line@example.org\n" + (folder / "models" / "risk_002.yaml").read_text())
    application = load_plan(folder).application
    assert [application.owner_of("models", f"risk_00{i}") for i in range(3)] == [
        "team-00@example.org", "payments-platform@example.org", "second-line@example.org",
    ]  # fmt: skip
    assert application.owner_of("streams", "payments") == "checkout@example.org"
    assert application.owner_of("views", "account_disputed") == "disputes@example.org"
    owners = application.parts_by_owner()
    assert next(iter(owners)) == application.owner and owners[application.owner] == {"models": ["risk_001"]}
    assert owners["disputes@example.org"] == {"streams": ["chargebacks"], "views": ["account_disputed"]}


def test_check_lists_the_owners(folder: Path) -> None:
    result = CliRunner().invoke(app, ["check", str(folder)], env={"COLUMNS": "300"})
    assert result.exit_code == 0
    assert "owner disputes@example.org" in result.output and "streams: chargebacks; views: account_disputed" in result.output
    assert "owner team-02@example.org" in result.output and "models: risk_002" in result.output


def test_another_owner_is_not_another_application(folder: Path) -> None:
    before = load_plan(folder).application_hash
    edit(folder / "models" / "risk_001.yaml", "team-01@", "team-09@")
    assert load_plan(folder).application_hash == before
    edit(folder / "models" / "risk_001.yaml", "0.01", "0.02")
    assert load_plan(folder).application_hash != before


def test_one_file_and_many_are_the_same_application(tmp_path: Path) -> None:
    whole, split = (Path(shutil.copytree(FLIGHTS, tmp_path / name)) for name in ("whole", "split"))
    text = (whole / "app.yaml").read_text()
    head, models = text[: text.index("models:\n")], text[text.index("models:\n") :].splitlines()[1:]
    (split / "app.yaml").write_text(head)
    (split / "models").mkdir()
    (split / "models" / "late.yaml").write_text("\n".join(line[2:] for line in models))
    assert load_plan(split).application_hash == load_plan(whole).application_hash


@pytest.mark.parametrize(
    ("file", "old", "new", "expected", "came"),
    [
        ("models/risk_001.yaml", "ask: payments", "ask: payment", "an event stream", "payment"),
        ("models/risk_001.yaml", "default: 0.01", "default: often", "a probability from 0 to 1", "often"),
        ("models/risk_002.yaml", "merchant_spend.mean_24h", "merchant_spend.mean_25h", "features among", "merchant_spend.mean_25h"),
        ("models/risk_002.yaml", '"amount > 0"', '"amout > 0"', "a SQL expression", "amout"),
        ("models/risk_002.yaml", "join: payment_id", "join: payment", "a column of chargebacks", "payment"),
        ("models/risk_000.yaml", "owner: team-00@example.org", "owner: ''", "at least 1 character", "''"),
        ("models/risk_000.yaml", "owner: team-00@example.org", "owner: [a, b]", "valid string", "['a', 'b']"),
        ("views/merchants.yaml", "entity: merchant", "entity: shop", "one of the entities", "shop"),
        ("views/accounts.yaml", "  source: chargebacks", "  source: refunds", "an event stream", "refunds"),
        ("streams/payments.yaml", '"amount > 0"', '"amount"', "an expression of type bool", "amount"),
        ("streams/chargebacks.yaml", "schemas/chargeback.avsc", "schemas/none.avsc", "an Avro schema file", "none.avsc"),
        ("streams/chargebacks.yaml", "  owner: disputes@example.org", "  owner: disputes: example", "YAML", "mapping values"),
        ("models/risk_000.yaml", "  kind: binary", "  kind: binary\n  kind: binary", "each key once", "'kind' again"),
        ("models/risk_000.yaml", "  kind: binary", "  kind: !!python/name:os.system binary", "a value without a tag", "python/name"),
    ],
)
def test_a_mistake_names_its_own_file_and_line(folder: Path, file: str, old: str, new: str, expected: str, came: str) -> None:
    line = edit(folder / file, old, new) + new.count("\n")
    with pytest.raises(ApplicationError) as caught:
        load_plan(folder)
    assert (caught.value.file, caught.value.line) == (folder / file, line)
    assert expected in str(caught.value) and came in str(caught.value)


def test_a_name_in_two_files_is_refused_where_it_comes_again(folder: Path) -> None:
    again = folder / "models" / "zzz.yaml"
    again.write_text("# copied\n" + (folder / "models" / "risk_001.yaml").read_text())
    with pytest.raises(ApplicationError, match=r"zzz.yaml:2: expected each of the models once, found risk_001 again, after .*risk_001.yaml"):
        load_plan(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1: expected a mapping, found nothing"),
        ("- a\n", "1: expected a mapping, found a list"),
        ("owner: [\n", "2: expected YAML"),
        ("risk_9: just words\n", "1: expected models.risk_9"),
        ("risk_9: &x\n  ask: *x\n", "a value that does not contain itself"),
        ("owner: a@example.org\n", None),
    ],
)
def test_a_file_of_models_that_is_none(folder: Path, text: str, message: str | None) -> None:
    (folder / "models" / "x.yaml").write_text(text)
    if message is None:
        assert len(load_plan(folder).models) == 3
    else:
        with pytest.raises(ApplicationError, match=message):
            load_plan(folder)


def test_bytes_that_are_no_text(folder: Path) -> None:
    (folder / "views" / "x.yaml").write_bytes(b"\xff\xfe: 1")
    with pytest.raises(ApplicationError, match=r"x.yaml:1: expected UTF-8 text"):
        load_plan(folder)

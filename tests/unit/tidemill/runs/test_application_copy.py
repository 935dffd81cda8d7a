"""A run's copy of its application: what is read of it and nothing else, the same for the same content."""

import shutil
from pathlib import Path

from tests.unit.tidemill.planning.changed import EXAMPLE
from tidemill.runs.application_copy import keep_application, kept_applications
from tidemill.shared.application.application_files import content_digest
from tidemill.shared.application.planning import load_plan


def test_the_copy_is_the_application_and_not_its_data(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "app"))
    (folder / "data").mkdir()
    (folder / "data" / "payments.csv").write_text("a\n1\n")
    copy = keep_application(folder, tmp_path / "run")
    assert load_plan(copy).application_hash == load_plan(folder).application_hash
    assert sorted(str(file.relative_to(copy)) for file in copy.rglob("*") if file.is_file()) == [
        "app.yaml", "schemas/chargeback.avsc", "schemas/payment.avsc",
    ]  # fmt: skip
    assert content_digest(copy) == content_digest(folder)


def test_an_edit_makes_another_copy_and_leaves_the_first(tmp_path: Path) -> None:
    folder, run = Path(shutil.copytree(EXAMPLE, tmp_path / "app")), tmp_path / "run"
    first = keep_application(folder, run)
    assert keep_application(folder, run) == first
    before = (first / "app.yaml").read_text()
    (folder / "app.yaml").write_text(before.replace("trials: 4", "trials: 5"))
    second = keep_application(folder, run)
    assert second != first and (first / "app.yaml").read_text() == before
    assert set(kept_applications(run)) == {first, second}


def test_own_estimators_and_schemas_outside_of_the_folder_come_along(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "apps" / "one", ignore=shutil.ignore_patterns("generator.py")))
    shutil.move(folder / "schemas", tmp_path / "apps" / "schemas")
    text = (folder / "app.yaml").read_text().replace("schema: schemas/", "schema: ../schemas/")
    (folder / "app.yaml").write_text(text.replace("training: {trials: 4", 'training: {families: ["mine:make"], trials: 4'))
    (folder / "mine.py").write_text("def make():\n    return None\n")
    copy = keep_application(folder, tmp_path / "run")
    assert (copy / "mine.py").is_file() and load_plan(copy).application_hash == load_plan(folder).application_hash

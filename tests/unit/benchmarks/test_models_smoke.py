import pytest

from benchmarks.models_smoke import run


def test_five_hundred_models_in_one_application_load_start_and_answer() -> None:
    few, many = run(models=2, trees=4, rows=20), run(models=500, trees=4, rows=20)
    assert many.predictions == 500 * 20
    assert many.topics == few.topics, "models share their topics"
    assert many.restore_mb < 500, "a model of four trees is a few kilobytes"


@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_models_of_other_kinds_load_start_and_answer_as_their_kind_does(kind: str) -> None:
    assert run(models=40, trees=4, rows=20, kind=kind).predictions == 40 * 20


def test_scoring_cost_prints_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.scoring_cost import main

    main(["--models", "1", "2", "--rows", "10", "--seconds", "0.01"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[2:]] == [["1", "10"], ["2", "10"]]

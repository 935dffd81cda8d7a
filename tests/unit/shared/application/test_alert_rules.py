"""Rules of alerts are checked with the application: a mistake is named with file and line, and nothing of them changes what is computed."""

import shutil
from pathlib import Path

import pytest

from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.planning import load_plan

FLIGHTS = Path(__file__).parents[4] / "examples" / "flights"


def application(folder: Path, alerts: str) -> Path:
    copied = Path(shutil.copytree(FLIGHTS, folder / "flights"))
    with (copied / "app.yaml").open("a") as file:
        file.write(alerts)
    return copied


@pytest.mark.parametrize(
    ("alerts", "line", "said"),
    [
        ("alerts:\n  rules:\n    slow:\n      on: health\n      when: latency > 3\n", 5, "latency"),
        ("alerts:\n  rules:\n    slow:\n      on: health\n      when: auc + 1\n", 5, "true or false"),
        ("alerts:\n  rules:\n    slow:\n      on: drift\n      when: statistic > 1\n      by: [nobody]\n", 6, "nobody"),
        ("alerts:\n  rules:\n    slow:\n      on: drift\n      when: statistic > 1\n      where: 'a b c'\n", 6, "a b c"),
        ("alerts:\n  rules:\n    slow:\n      on: drift\n      when: statistic > 1\n      for: 3h\n", 3, "no for"),
        ("alerts:\n  rules:\n    slow:\n      on: drift\n      when: statistic > 1\n      channels: [ops]\n", 1, "ops"),
        ("alerts:\n  channels:\n    ops: {kind: mail}\n", 3, "to and from"),
        ("alerts:\n  channels:\n    log: {kind: webhook}\n", 1, "log is there always"),
        ("alerts:\n  rules:\n    old:\n      on: deployments\n      when: age_s > 5\n      once: true\n", 6, "age_s"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, alerts: str, line: int, said: str) -> None:
    before = len((FLIGHTS / "app.yaml").read_text().splitlines())
    with pytest.raises(ApplicationError) as caught:
        load_plan(application(tmp_path, alerts))
    assert f"app.yaml:{before + line}:" in str(caught.value)
    assert said in str(caught.value)


def test_alerts_are_no_part_of_the_application_s_version(tmp_path: Path) -> None:
    alerts = "alerts: {rules: {slow: {on: health, when: 'latency_p99_ms > 3'}}, channels: {ops: {kind: webhook}}}\n"
    assert load_plan(application(tmp_path, alerts)).application_hash == load_plan(FLIGHTS).application_hash

"""What an application may say of an A/B test; what it may not is refused by file and line."""

from pathlib import Path

import pytest

from tests.unit.services.drift.stream import APP, shop
from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.plan import Plan

DAY = 86_400_000


def with_stages(folder: Path, stages: str, kind: str = "") -> Plan:
    """Return the shop whose model has stages, and another kind."""
    assert APP.count("  sent_back:\n") == 1
    return shop(folder, APP.replace("  sent_back:\n", f"  sent_back:\n    stages: {stages}\n{kind}"))


def test_a_test_stands_between_canary_and_champion_with_good_defaults(tmp_path: Path) -> None:
    stages = with_stages(tmp_path, "{canary: {}, ab: {}}").models["sent_back"].settings.stages
    assert stages.ab is not None
    assert (stages.ab.share, stages.ab.duration, stages.ab.metric, stages.ab.better, stages.ab.margin) == (0.5, 14 * DAY, "loss", None, None)
    own = with_stages(tmp_path, "{ab: {share: 0.2, for: 28d, metric: label, better: lower, margin: 0.01}}").models["sent_back"].settings.stages.ab
    assert own is not None and (own.share, own.duration, own.metric, own.better, own.margin) == (0.2, 28 * DAY, "label", "lower", 0.01)


@pytest.mark.parametrize(
    ("ab", "words"),
    [
        ("{share: 0}", "share"),
        ("{share: 1}", "share"),
        ("{share: 1.5}", "share"),
        ("{for: 91d}", "for"),
        ("{for: soon}", "a duration such as 30s, 15m, 3h or 7d, found 'soon'"),
        ("{metric: label}", "better: lower or higher, with metric: label"),
        ("{better: lower}", "better: nothing with metric: loss"),
        ("{metric: revenue}", "metric"),
        ("{margin: 0}", "margin"),
        ("{until: 14d}", "until"),
    ],
)
def test_what_does_not_fit_is_refused_by_line(tmp_path: Path, ab: str, words: str) -> None:
    with pytest.raises(ApplicationError, match=r"app\.yaml:\d+") as refusal:
        with_stages(tmp_path, f"{{ab: {ab}}}")
    assert words in str(refusal.value)


@pytest.mark.parametrize("share", ["0", "1", "-0.1", "1.5", ".nan"])
def test_a_canarys_share_out_of_range_is_refused_by_line(tmp_path: Path, share: str) -> None:
    with pytest.raises(ApplicationError, match=r"app\.yaml:\d+.*share"):
        with_stages(tmp_path, f"{{canary: {{share: {share}}}}}")


def test_labels_that_acting_hides_do_not_tell_what_acting_has_done(tmp_path: Path) -> None:
    with pytest.raises(ApplicationError, match=r"app\.yaml:\d+.*where acting on an answer hides its label"):
        with_stages(tmp_path, "{ab: {metric: label, better: lower}}", "    control: {share: 0.05, hidden_when: predicted = 1}\n")


def test_labels_of_several_classes_are_neither_lower_nor_higher(tmp_path: Path) -> None:
    model = "  sent_back:\n    stages: {ab: {metric: label, better: lower}}\n    kind: multiclass\n    classes: [fine, bad]\n"
    text = (
        APP.replace("  sent_back:\n", model)
        .replace("{default: 0.3}", "{default: fine}")
        .replace('value: "bad"', "value: \"IF(bad > 0, 'bad', 'fine')\"")
    )
    with pytest.raises(ApplicationError, match=r"app\.yaml:\d+") as refusal:
        shop(tmp_path, text)
    assert "loss: labels of several classes have no mean" in str(refusal.value)

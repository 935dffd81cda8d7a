"""What `check` says of policies whose first training cannot have the labels it needs."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tidemill.services.cli.__main__ import app
from tidemill.services.retraining.domain.first_labels import FirstLabels, first_labels_warning
from tidemill.shared.application.model import Model
from tidemill.shared.application.plan import declared_kind
from tidemill.shared.application.planning import load_plan

EXAMPLES = Path(__file__).parents[4] / "examples"
ASKED = {"ask": "orders", "features": ["amount"], "label": {"stream": "returns", "join": "order_id", "value": "bad", "max_delay": "2d"}}
CLASSES = [f"c{i}" for i in range(40)]


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"fallback": {"default": 0.002}}, (5_000, 5_000, 5_000)),
        ({"fallback": {"default": 0.999}, "training": {"min_positives": 4}}, (4_000, 4_000, 4_000)),
        ({"fallback": {"default": 0.24}}, (1_000, 42, 500)),
        # Nobody says how many positives there are: half of the rows are the most that both classes can have.
        ({"fallback": {"default": 0.0}, "training": {"min_rows": 10}, "gate": {"min_rows": 10}}, (20, 20, 20)),
        ({"kind": "regression", "fallback": {"default": 3.0}}, (1_000, 10, 500)),
        ({"kind": "multiclass", "classes": CLASSES, "fallback": {"default": "c0"}}, (1_000, 400, 500)),
        ({"kind": "multiclass", "classes": ["a", "b", "c"], "fallback": {"default": {"a": 0.8, "b": 0.195, "c": 0.005}}}, (2_000, 52, 2_000)),
        ({"kind": "multiclass", "classes": "learned"}, (1_000, 20, 500)),
    ],
)
def test_labels_of_a_first_training_by_kind(settings: dict[str, Any], parts: tuple[int, int, int]) -> None:
    model = Model.model_validate({**ASKED, **settings})
    needed = FirstLabels.of(model, declared_kind(model))
    assert (needed.learning, needed.validation, needed.judging) == parts
    for labels, warned in ((needed.total, False), (needed.total - 1, True)):
        some = model.model_copy(update={"retraining": model.retraining.model_copy(update={"bootstrap_labels": labels})})
        warning = first_labels_warning("sent_back", some, declared_kind(some))
        assert bool(warning) == warned
        assert not warned or f"Set retraining.bootstrap_labels to {needed.total:,}" in warning


def test_examples_have_labels_enough() -> None:
    for name in ("flights", "payments"):
        models = load_plan(EXAMPLES / name).models
        assert models and not [warning for model in models if (warning := first_labels_warning(model, models[model].settings, models[model].kind))]


def test_check_warns_by_the_names_of_the_keys_and_succeeds(tmp_path: Path) -> None:
    text = (EXAMPLES / "payments" / "app.yaml").read_text().replace("bootstrap_labels: 10000", "bootstrap_labels: 600")
    for file in (EXAMPLES / "payments").rglob("*.avsc"):
        place = tmp_path / file.relative_to(EXAMPLES / "payments")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())
    (tmp_path / "app.yaml").write_text(text)
    checked = CliRunner().invoke(app, ["check", str(tmp_path)])
    assert checked.exit_code == 0, checked.output
    said = " ".join(checked.output.split())
    for part in ("a first training is asked for at 600 labels", "training.min_positives", "the rarest has 4.00% (fallback.default)", "gate.min_rows"):
        assert part in said

"""What docs/guide/loss-alarms.md shows is an application file."""

import re
from pathlib import Path

from ruamel.yaml import YAML

from tests.unit.services.drift.stream import APP, shop
from tidemill.shared.application.planning import load_plan

GUIDE = Path(__file__).parents[4] / "docs" / "guide" / "loss-alarms.md"


def test_the_guide_loads(tmp_path: Path) -> None:
    drift, alerts = (YAML(typ="safe").load(text) for text in re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.S))
    shop(tmp_path)
    app = YAML(typ="safe").load(APP)
    app["models"]["sent_back"]["drift"] = drift["models"]["late_arrival"]["drift"]
    app |= alerts
    with (tmp_path / "app.yaml").open("w") as file:
        YAML(typ="safe").dump(app, file)
    model = load_plan(tmp_path).models["sent_back"].settings
    assert [one.name for one in model.detectors] == ["cusum_mixture", "adwin", "page_hinkley"]
    assert model.detectors[1].parameters == {"delta": 0.001}

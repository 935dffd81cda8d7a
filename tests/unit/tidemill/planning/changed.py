"""A changed copy of the payments application."""

import json
import shutil
from pathlib import Path

from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan

EXAMPLE = Path(__file__).parents[4] / "examples" / "payments"
SECOND_MODEL = """
  large:
    kind: regression
    ask: payments
    features: [currency, account_spending.*]
    label: {stream: chargebacks, join: payment_id, value: "1.0", max_delay: 2d}
    fallback: {default: 0.5}
"""


def changed(folder: Path, *edits: tuple[str, str], schema: tuple[str, str] | None = None) -> Path:
    """Copy the application to a new folder, with each text of its file put in place of another, of which there is one."""
    copy = Path(shutil.copytree(EXAMPLE, folder))
    file = copy / "schemas" / "payment.avsc"
    if schema is not None:
        declared = json.loads(file.read_text())
        fields = [{key: value for key, value in one.items() if key != "doc"} for one in declared["fields"]]
        file.write_text(json.dumps({**declared, "fields": fields}))
    for place, pairs in ((copy / "app.yaml", edits), (file, [schema] if schema else [])):
        text = place.read_text()
        for old, new in pairs:
            assert text.count(old) == 1, (place, old, text.count(old))
            text = text.replace(old, new)
        place.write_text(text)
    return copy


def changed_plan(folder: Path, *edits: tuple[str, str], schema: tuple[str, str] | None = None) -> Plan:
    """Load it."""
    return load_plan(changed(folder, *edits, schema=schema))

"""An application of two partitions for tests: meters are read, and some readings turn out to be faulty."""

import json
from pathlib import Path
from typing import Any

APP = """
app: {app}
owner: someone@example.org
partition_by: meter
partitions: 2
streams:
  readings:
    topic: {app}-readings
    schema: reading.avsc
    event_id: reading_id
    event_time: read_at
    allowed_lateness: 1h
    expect:
      - {{name: no negative use, check: "kwh IS NULL OR kwh >= 0", otherwise: reject}}
  faults: {{topic: {app}-faults, schema: fault.avsc, event_id: fault_id, event_time: found_at}}
entities:
  meter: {{from: {{readings: meter}}}}
views:
  use: {{entity: meter, source: readings, value: kwh, aggregate: [count, sum, max], windows: [6h]}}
models:
  faulty:
    ask: readings
    features: [kwh, use.*]
    label: {{stream: faults, join: reading_id, value: faulty, max_delay: 2h}}
    fallback: {{default: 0.1}}
"""
_STAMP = {"type": "long", "logicalType": "timestamp-millis"}
READING = [("reading_id", "string"), ("meter", "string"), ("read_at", _STAMP), ("kwh", ["null", "double"])]
# The key is a number here and text there: the same key all the same, and one that can be NaN.
FAULT = [("fault_id", "string"), ("reading_id", "string"), ("meter", "double"), ("found_at", _STAMP), ("faulty", "double")]


def record(name: str, fields: list[tuple[str, Any]]) -> str:
    """Return an Avro record schema."""
    return json.dumps({"type": "record", "name": name, "namespace": "meters", "fields": [{"name": n, "type": t} for n, t in fields]})


def write_application(folder: Path, app: str) -> Path:
    """Write the application under a name of its own."""
    folder.mkdir(parents=True)
    (folder / "app.yaml").write_text(APP.format(app=app))
    (folder / "reading.avsc").write_text(record("Reading", READING))
    (folder / "fault.avsc").write_text(record("Fault", FAULT))
    return folder

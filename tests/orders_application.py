"""A shop's application with one stream, `orders`, whose fields a test chooses."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ORDERS = """
app: shop
owner: shop@example.org
partition_by: order_id
streams:
  orders:
    topic: orders
    schema: order.avsc
    event_id: order_id
    event_time: at
"""


def order_schema(fields: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the schema of an order: its id, its time, and these fields."""
    at = {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}
    return {"type": "record", "name": "Order", "fields": [{"name": "order_id", "type": "string"}, at, *fields]}


def write_orders(folder: Path, schema: dict[str, Any], application: str = ORDERS) -> Path:
    """Write the application, by default the stream alone, and return its folder; `ORDERS` plus more lines declares more of the stream."""
    (folder / "order.avsc").write_text(json.dumps(schema))
    (folder / "app.yaml").write_text(application)
    return folder

"""The topic catalogue (`schemas/topics.yaml`) as topics to create."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tidemill.shared.log.broker import TopicSpec

CATALOGUE = Path(__file__).parents[2] / "schemas" / "topics.yaml"


def catalogue_topics(app: str, partitions: int, catalogue: Path = CATALOGUE) -> list[TopicSpec]:
    """Every internal and public topic of an application.

    Parameters
    ----------
    app
        Name of the application.
    partitions
        Partitions of those topics for which the catalogue does not fix a number.
    """
    document = yaml.load(catalogue.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    compact = document["defaults"]["compact"]
    topics = []
    for pattern, entry in document["topics"].items():
        stages = document["stages"] if "{stage}" in pattern else [""]
        topics += [TopicSpec(pattern.format(app=app, stage=stage), entry.get("partitions", partitions), _config(entry, compact)) for stage in stages]
    return topics


def _config(entry: Mapping[str, Any], compact: Mapping[str, Any]) -> dict[str, str]:
    if entry["cleanup"] == "compact":
        return {"cleanup.policy": "compact", **{name: str(value) for name, value in compact.items()}}
    return {"cleanup.policy": "delete", "retention.ms": str(entry["retention_ms"])}

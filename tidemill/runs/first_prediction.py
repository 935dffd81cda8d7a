"""The first prediction of a run, shown as soon as it is committed: whoever starts a run waits for that."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from tidemill.runs.watch import RunState
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.dated_rows import dated_rows
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.records import TopicPartition

_SCHEMA = Path(__file__).parents[1] / "schemas" / "prediction.avsc"


class FirstPrediction:
    """Looks for it while a run goes on.

    Parameters
    ----------
    started
        When the run began, by `now_s`.
    only_new
        A run that goes on: what was predicted before this object was made does not count.

    Attributes
    ----------
    after_s
        Seconds to the first prediction; None as long as there is none.
    """

    def __init__(
        self,
        plan: Plan,
        broker: Broker,
        registry: SchemaRegistry,
        started: float,
        console: Console,
        now_s: Callable[[], float] = time.monotonic,
        only_new: bool = False,
    ) -> None:
        self._topic, self._partitions = plan.topics.predictions, plan.application.partitions
        self._broker, self._registry = broker, registry
        self._started, self._console, self._now_s = started, console, now_s
        self.after_s: float | None = None
        self._begin = self._ends() if only_new else dict.fromkeys(range(self._partitions), 0)
        self._counted = 0

    def look(self, seen: RunState) -> None:
        """Show it if it has come; cheap to call often."""
        counted = seen.produced("scoring", self._topic)
        if self.after_s is not None or counted <= self._counted:
            return
        self._counted = counted
        prediction = self._read()
        if prediction is None:
            return
        self.after_s = self._now_s() - self._started
        by = f"by version {prediction['model_version']}" if prediction["variant"] == "champion" else "by default: no model is trained yet"
        named = f"{prediction['predicted_label']} " if prediction["predicted_label"] is not None else ""
        answer = f"{prediction['model']} of {prediction['request_id']} {named}{prediction['score']:.4g}"
        self._console.print(
            escape(f"First prediction after {self.after_s:.0f} s: {answer} ({by})"),
            highlight=False,
            soft_wrap=True,
        )

    def _ends(self) -> dict[int, int]:
        reader = self._broker.reader()
        try:
            return {partition: reader.watermarks(TopicPartition(self._topic, partition))[1] for partition in range(self._partitions)}
        finally:
            reader.close()

    def _read(self) -> dict[str, Any] | None:
        """Return the first record of the topic that counts, which a progress record says is there; None when those are all older ones."""
        decoder, reader = ColumnDecoder(self._registry, _SCHEMA.read_text(encoding="utf-8")), self._broker.reader()
        try:
            for partition in range(self._partitions):
                for records in reader.read(TopicPartition(self._topic, partition), self._begin[partition]):
                    if len(records):
                        return dated_rows(decoder.decode(records[slice(0, 1)].values).batch)[0]
        finally:
            reader.close()
        if any(self._begin.values()):
            return None
        raise RuntimeError(f"expected a prediction in {self._topic}, which scoring's progress says it wrote; found none")

"""A flood of dead letters ends no process."""

from collections.abc import Sequence
from pathlib import Path

from tests.property.runner_tasks import APP, CountingTask, arguments, output, topics
from tests.unit.shared.runner.runners import INPUT, OUTPUT, REJECTED, quick, steps
from tidemill.shared.log.records import Emission, Records, Step
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import StepContext


class Refusing(CountingTask):
    """Refuses junk, as ingestion does."""

    def _fold(self, records: Records) -> list[bytes]:
        return [said for row in range(len(records)) if records.values[row] != b"{}" for said in self._fold_one(records[row : row + 1])]

    def _fold_one(self, record: Records) -> list[bytes]:
        return super()._fold(record)

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        junk = [value for records in inputs for value in records.values if value == b"{}"]
        step = super().process(inputs, context)
        letters = [Emission(REJECTED, self.partition, [None] * len(junk), list(junk))] if junk else []
        return Step([*step.emissions, *letters], step.positions, step.coverage)


def test_a_flood_of_junk_is_worked_off_in_short_steps_and_reported_until_it_is_over(tmp_path: Path) -> None:
    broker = MemoryBroker()
    broker.create_topics(topics(APP, 1))
    keys, junk, clock = "abcab" * 20, 3_000, [0.0]

    def publish(values: Sequence[bytes], key: str = "a") -> None:
        broker.sink().publish_run(Emission(INPUT, 0, [key.encode()] * len(values), list(values)))

    class Costly(Refusing):
        def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
            sizes.append(sum(map(len, inputs)))
            clock[0] += 0.001 * sizes[-1]
            return super().process(inputs, context)

    sizes: list[int] = []
    health = ProcessHealth()

    def runner() -> Runner:
        chosen = quick(tmp_path, dead_letter_window=500, dead_letter_run=10**9, max_batch=1_000)
        return Runner(
            **arguments(
                APP, broker, settings=chosen, task_factory=lambda p: Costly(APP, p), timer=lambda: clock[0], clock_ms=lambda: 1, health=health
            )
        )

    publish([b"{}"] * junk)
    first = steps(runner(), 3)
    assert max(sizes) <= 1_000 and first.tasks[0].progress.refusals.flooded
    assert "became dead letters" in next(iter(health.troubles.values()))
    # A restart knows of it, and good records among the junk wait for a short step only.
    sizes.clear()
    again = runner()
    steps(again, 2)
    publish([b"{}"] * 500 + [b"x"])
    steps(again, 80)
    assert max(sizes[1:]) <= 51 and max(sizes) <= 500, "a millisecond a record, 50 ms a step"
    assert len(output(broker, REJECTED)) == junk + 500 and output(broker, OUTPUT) == [b"a=1@3500"]
    for _ in keys:
        publish([b"x"] * 20, "b")
    steps(again, 60)
    assert not again.tasks[0].progress.refusals.flooded and not health.troubles
    assert len(output(broker, OUTPUT)) == 1 + 20 * len(keys)

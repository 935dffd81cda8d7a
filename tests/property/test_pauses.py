"""Whatever comes, with restarts and lost commits anywhere: a pause loses nothing, doubles nothing, and lies where the journal says."""

import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.flooded_shop import Shop
from tests.long_forms import examples
from tidemill.shared.log.errors import TransientError
from tidemill.shared.memory.clients import MemoryTransactionalSink

ACTIONS = st.one_of(
    st.tuples(st.sampled_from(["orders", "parcels"]), st.integers(1, 40)),
    st.tuples(st.just("junk of orders"), st.integers(20, 130)),
    st.tuples(st.just("junk of parcels"), st.integers(1, 130)),
    st.tuples(st.sampled_from(["steps", "steps", "lost commit"]), st.integers(1, 6)),
    st.tuples(st.sampled_from(["restart", "resume", "killed"]), st.just(0)),
)


class Flaky:
    """Loses the next commits of a run: what a step has made is not there, and it is made again."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def lose(self, commits: int) -> None:
        """Make steps of which the first commits fail."""
        sink = self._shop.runner._sink
        assert isinstance(sink, MemoryTransactionalSink)
        commit, left = sink.commit, [commits]

        def failing() -> object:
            left[0] -= 1
            if left[0] >= 0:
                raise TransientError("no answer")
            return commit()

        sink.commit = failing  # type: ignore[method-assign, assignment]  # the fault is planted here
        for _ in range(2 * commits):
            self._shop.runner.step()
        sink.commit = commit  # type: ignore[method-assign]  # the fault is planted here


@pytest.mark.lasts(30)
@settings(max_examples=examples(30), deadline=None)
@given(st.lists(ACTIONS, min_size=4, max_size=14))
def test_a_pause_loses_nothing_and_lies_where_the_journal_says(actions: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(Path(folder))
        good: dict[str, list[str]] = {"orders": [], "parcels": []}
        junk: Counter[str] = Counter()
        for what, number in actions:
            if what in good:
                good[what] += shop.publish(what, number)
            elif what.startswith("junk"):
                stream = what.removeprefix("junk of ")
                shop.publish(stream, number, good=False)
                junk[stream] += number
            elif what == "steps":
                for _ in range(number):
                    shop.runner.step()
            elif what == "lost commit":
                Flaky(shop).lose(number)
            elif what == "resume":
                shop.say("orders")
            else:
                # A killed process says nothing to anybody; its successor has the same name.
                if what == "restart":
                    shop.runner.close()
                shop.start()
        for _ in range(12):
            shop.run()
            if not shop.paused:
                break
            shop.say("orders")
        assert not shop.paused
        journal = shop.journal()
        for stream, names in good.items():
            assert [name for kind, name in journal if kind == stream] == names
        assert len(shop.values("shop-rejected")) == junk.total()
        flows = shop.runner.tasks[0].progress.flows
        rejected = {topic: sum(flow.rejected.values()) for topic, flow in flows.items() if flow.rejected}
        assert rejected == {f"shop-{stream}": n for stream, n in junk.items()}
        paused = False
        for kind, name in journal:
            if name == "orders":
                assert (kind == "paused") is not paused
                paused = kind == "paused"
            assert not (paused and kind == "orders")
        assert not paused

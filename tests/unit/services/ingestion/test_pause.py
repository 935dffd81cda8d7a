"""A stream that is declared so stands still when most of it is refused, alone, through restarts, until a signed command; the journal says where."""

from collections import Counter
from pathlib import Path

import pytest

from tests.flooded_shop import Shop
from tidemill.shared.application.journal import TICK, JournalDecoder
from tidemill.shared.log.records import TopicPartition


def flooded(folder: Path) -> tuple[Shop, list[str]]:
    """Return a shop whose orders are paused, and the ids of good orders that wait."""
    shop = Shop(folder)
    shop.publish("orders", 20)
    shop.publish("parcels", 5)
    shop.run()
    shop.publish("orders", 150, good=False)
    shop.run()
    assert shop.paused == {"shop-orders"}
    return shop, shop.publish("orders", 30)


def test_a_flood_pauses_its_stream_alone_until_a_signed_command(tmp_path: Path) -> None:
    shop, waiting = flooded(tmp_path)
    parcels = shop.publish("parcels", 40)
    shop.run()
    assert shop.entries("parcels")[-40:] == parcels and len(shop.entries("orders")) == 20
    assert "paused" in shop.health.troubles["shop-orders in partition 0"] and "tidemill resume" in shop.health.troubles["shop-orders in partition 0"]
    assert shop.metrics.registry.get_sample_value("tidemill_paused", {"stage": "ingestion", "partition": "0", "topic": "shop-orders"}) == 1
    # Whoever has no key, or means a model, resumes nothing.
    shop.say("orders", key=b"another key of sixteen bytes")
    shop.say("orders", command="resume")
    shop.say("parcels")
    shop.run()
    assert shop.paused == {"shop-orders"}
    shop.say("orders")
    shop.run()
    assert not shop.paused and not shop.health.troubles
    assert shop.entries("orders")[20:] == waiting
    assert shop.metrics.registry.get_sample_value("tidemill_paused", {"stage": "ingestion", "partition": "0", "topic": "shop-orders"}) == 0
    # The journal says where: nothing of the stream stands between the marks, whatever was published when.
    journal = shop.journal()
    begin, end = journal.index(("paused", "orders")), journal.index(("resumed", "orders"))
    assert {kind for kind, _ in journal[begin + 1 : end]} == {"parcels"} and [name for kind, name in journal[end:] if kind == "orders"] == waiting
    assert len(shop.values("shop-rejected")) == 150 and len(journal) - 2 + 150 == sum(shop.sent.values())


def test_to_the_stages_behind_a_mark_is_a_tick(tmp_path: Path) -> None:
    shop, _ = flooded(tmp_path)
    shop.say("orders")
    shop.run()
    log = shop.broker.log(TopicPartition("shop-journal", 0))
    batch = JournalDecoder(shop.plan, shop.registry).decode(log.read(0, log.end, log.end)[0])
    ticks = batch.stream_index == TICK
    assert ticks.sum() >= 2 and (batch.journal_time_ms[1:] >= batch.journal_time_ms[:-1]).all()


def test_a_pause_and_its_counts_survive_restarts_and_count_what_is_committed(tmp_path: Path) -> None:
    shop, waiting = flooded(tmp_path)
    for _ in range(3):
        shop.runner.close()
        shop.start()
        shop.run()
        assert shop.paused == {"shop-orders"} and "paused" in shop.health.troubles["shop-orders in partition 0"]
    shop.publish("parcels", 1, good=False)
    shop.run()
    flows = shop.runner.tasks[0].progress.flows
    assert {topic: dict(flow.rejected) for topic, flow in flows.items()} == {
        "shop-orders": {"invalid_json": 150},
        "shop-parcels": {"invalid_json": 1},
    }
    labels = {"stage": "ingestion", "partition": "0", "topic": "shop-orders", "reason": "invalid_json"}
    assert shop.metrics.registry.get_sample_value("tidemill_rejected", labels) == 150
    shop.runner.close()
    # Said while nobody runs: followed at the next start.
    shop.say("orders")
    shop.start()
    shop.run()
    assert not shop.paused and shop.entries("orders")[20:] == waiting
    assert Counter(name for _, name in shop.journal()).most_common(1)[0][1] <= 2


def test_the_same_command_sent_again_resumes_nothing(tmp_path: Path) -> None:
    shop, _ = flooded(tmp_path)
    said = shop.say("orders")
    shop.run()
    assert not shop.paused
    shop.publish("orders", 150, good=False)
    shop.run()
    assert shop.paused == {"shop-orders"}
    shop.say("orders", record=said)
    shop.run()
    assert shop.paused == {"shop-orders"}
    shop.say("orders")
    shop.run()
    assert not shop.paused and [kind for kind, name in shop.journal() if name == "orders"] == ["paused", "resumed", "paused", "resumed"]


def test_one_resume_by_a_clock_that_ran_ahead_holds_back_none_that_comes_later(tmp_path: Path) -> None:
    shop, _ = flooded(tmp_path)
    ahead = shop.say("orders", issued_ms=4_000_000_000_000)
    shop.run()
    assert not shop.paused
    shop.publish("orders", 150, good=False)
    shop.run()
    for said in (ahead, None):
        assert shop.paused == {"shop-orders"}, "a copy of the one ahead resumes nothing"
        shop.say("orders", record=said)
        shop.run()
    assert not shop.paused


def test_a_copy_of_a_resume_that_was_not_needed_resumes_no_later_pause(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    unneeded = shop.say("orders")
    shop.run()
    shop.runner.close()
    shop.start()
    shop.publish("orders", 150, good=False)
    shop.run()
    shop.say("orders", record=unneeded)
    shop.run()
    assert shop.paused == {"shop-orders"}
    # Its id is forgotten after many others, its time is not.
    for number in range(40):
        shop.say("orders", issued_ms=unneeded["issued_at"] + 1 + number)
    shop.run()
    assert len(shop.runner.tasks[0].progress.flows["shop-orders"].obeyed) == 32
    shop.publish("orders", 150, good=False)
    shop.run()
    shop.say("orders", record=unneeded)
    shop.run()
    assert shop.paused == {"shop-orders"}


def test_what_was_read_and_waited_in_the_merge_waits_on(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.publish("orders", 300, good=False)
    good = shop.publish("orders", 300)
    parcels = shop.publish("parcels", 10)
    shop.run()
    # Junk and good records came in one batch: what lies behind the pause is decided by the step, and the mark says it.
    journal = shop.journal()
    assert [name for kind, name in journal if kind == "parcels"] == parcels
    before = [name for kind, name in journal if kind == "orders"]
    assert before == good[: len(before)]
    if shop.paused:
        shop.say("orders")
        shop.run()
    assert [name for kind, name in shop.journal() if kind == "orders"] == good


def test_reference_rows_are_paused_as_events_are(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.publish("prices", 150, good=False)
    shop.run()
    assert shop.paused == {"shop-prices"}
    rows, orders = shop.publish("prices", 3), shop.publish("orders", 3)
    shop.run()
    assert shop.entries("orders") == orders and not shop.entries("prices")
    shop.runner.close()
    shop.start()
    shop.say("prices")
    shop.run()
    assert [name for kind, name in shop.journal() if kind == "prices"] == rows


@pytest.mark.parametrize("when", ["before", "while paused"])
def test_a_stream_that_is_throttled_by_declaration_goes_on(tmp_path: Path, when: str) -> None:
    if when == "before":
        shop = Shop(tmp_path, "throttle")
        waiting: list[str] = []
        shop.publish("orders", 150, good=False)
        shop.run()
        assert not shop.paused and "throttled" in shop.health.troubles["shop-orders in partition 0"]
    else:
        shop, waiting = flooded(tmp_path)
        shop.runner.close()
        shop.declare("throttle")
        shop.start()
    more = shop.publish("orders", 10)
    shop.run()
    assert not shop.paused and shop.entries("orders")[-10 - len(waiting) :] == [*waiting, *more]

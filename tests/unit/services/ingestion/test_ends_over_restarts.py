"""That a stream has ended is known after a restart: its end is told once, and so is that it goes on."""

from pathlib import Path

from tests.flooded_shop import Shop
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.log.heartbeat import END_OF_STREAM_KEY


def told(shop: Shop) -> list[tuple[str, bool]]:
    codec = message_codec(shop.registry, shop.plan.topics.stream_ends, "stream-end")
    return [(one["stream"], one["ended"]) for one in map(codec.decode, shop.values(shop.plan.topics.stream_ends))]


def end(shop: Shop, stream: str) -> None:
    shop.sink.publish(f"shop-{stream}", END_OF_STREAM_KEY, None)


def test_the_end_of_a_stream_is_known_after_a_restart_and_told_once(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    for stream in ("orders", "parcels"):
        shop.publish(stream, 3)
        end(shop, stream)
        shop.run()
    ended = [("orders", True), ("parcels", True)]
    assert told(shop) == ended
    for _ in range(2):
        shop.runner.close()
        shop.start()
        end(shop, "orders")
        shop.run()
        assert told(shop) == ended, "an end that stands is not told again"
    shop.publish("orders", 1)
    shop.run()
    assert told(shop) == [*ended, ("orders", False)], "what goes on is told, though another process has told its end"

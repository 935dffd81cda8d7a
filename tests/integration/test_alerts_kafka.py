"""Alerts on a real broker: records that were committed become notifications on the public topic, whatever kills the process between."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.alerting import KEY, Receiver, alerts, finding, models, wait_for
from tidemill.deploy.embedded.component import Component
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.runs.command_channel import CommandChannel
from tidemill.shared.commands.signing import signed_command

pytestmark = pytest.mark.timeout(200)
AWAY_S = 25.0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.mark.lasts(25)
def test_what_was_committed_is_told_and_a_kill_between_sending_and_remembering_loses_nothing(
    tmp_path: Path, application_name: str, infrastructure: Infrastructure, receiver: Receiver
) -> None:
    with alerts(tmp_path, application_name, infrastructure, receiver) as running:
        topic = running.topics.drift
        began = time.monotonic()
        running.publish(topic, "Drift", finding(1))
        running.publish(topic, "Drift", finding(2), commit=False)
        running.publish(topic, "Drift", finding(3, "info"))
        wait_for(lambda: running.lives() and len(receiver.posts) == 1, "the webhook is told")
        first_s = time.monotonic() - began
        wait_for(lambda: models(running.told()) == ["m1"], "the topic is told")
        headers, body = receiver.posts[0]
        assert body["notifications"][0]["alert_id"] == running.told()[0]["alert_id"]
        assert body["notifications"][0]["origin"] == f"{topic}:0:0"
        assert body["message_id"] == headers["X-Tidemill-Message-Id"]

        mute = signed_command(KEY.encode(), "m6", "mute_alerts", "it is known", "mute-m6", operator="ann", rules="finding", duration_ms=3_600_000)
        CommandChannel(running.topics.commands, running.broker, running.registry, b"of somebody else").send("*", "mute_alerts", "forged", rules="*")
        running.publish(running.topics.commands, "Command", mute)
        wait_for(lambda: any(one["labels"].get("command_id") == "mute-m6" for one in running.told()), "the mute is told of")
        (said,) = [one["summary"] for one in running.told() if one["rule"] == "mute"]
        assert said.startswith("ann muted finding of m6 until 2") and said.endswith("it is known")

        assert running.process is not None
        process = running.process

        def kill_once() -> int:
            # What is killed may stand for a fork that ends a moment later: it must not hear an answer in that moment.
            receiver.before_answer = lambda: 200
            process.kill()
            return 0

        receiver.before_answer = kill_once
        running.publish(topic, "Drift", finding(4))
        wait_for(lambda: process.poll() is not None, "the receiver has killed the service before it heard the answer")
        assert models([receiver.posts[1][1]["notifications"][0]]) == ["m4"]
        running.publish(topic, "Drift", finding(5))
        running.start()
        wait_for(lambda: {"m1", "m4", "m5"} <= set(models(running.told())), "what came while it was away is told as well")
        wait_for(lambda: len(receiver.posts) >= 4, "the message that was sent is sent again")
        running.publish(topic, "Drift", finding(6))
        wait_for(lambda: "m6" in models(running.told()), "a muted alert is told by the topic")
        assert [one["muted"] for one in running.told() if one["labels"].get("model") == "m6" and one["rule"] == "finding"] == [True]
        assert "m6" not in json.dumps([body for _, body in receiver.posts]), "the mute has survived the kill"
        ids = [body["message_id"] for _, body in receiver.posts]
        assert ids[1] == ids[2] != ids[3]
        assert {one["status"] for one in running.told() if one["rule"] == "finding"} == {"firing"}
        by_model: dict[str, set[str]] = {}
        for one in (told for told in running.told() if told["rule"] == "finding"):
            by_model.setdefault(one["labels"]["model"], set()).add(one["alert_id"])
        assert {model: len(versions) for model, versions in by_model.items()} == {"m1": 1, "m4": 1, "m5": 1, "m6": 1}
        memory = psutil.Process(running.process.pid).memory_info().rss / 2**20
        assert running.stop() == 0, running.log.read_text()
        log = running.log.read_text()
        assert receiver.url not in log
        assert KEY not in log
        print(f"first notification {first_s:.1f} s after the start, {memory:.0f} MB")


@pytest.mark.lasts(8)
def test_at_the_end_of_a_replay_what_was_written_last_is_read_and_what_waits_for_its_group_is_sent(
    tmp_path: Path, application_name: str, infrastructure: Infrastructure, receiver: Receiver
) -> None:
    with alerts(tmp_path, application_name, infrastructure, receiver, "replay") as running:
        running.publish(running.topics.drift, "Drift", finding(1))
        wait_for(lambda: running.lives() and models(running.told()) == ["m1"], "the topic is told at once")
        assert not receiver.posts, "nothing moves the clock on by the hour for which a group waits"
        running.publish(running.topics.drift, "Drift", finding(2))
        assert running.stop() == 0, running.log.read_text()
        assert [models(body["notifications"]) for _, body in receiver.posts] == [["m1", "m2"]]


@pytest.mark.lasts(60)
def test_a_broker_that_is_away_for_half_a_minute_ends_no_process_and_loses_or_doubles_no_alert(
    tmp_path: Path, application_name: str, infrastructure: Infrastructure, own_kafka: Component, receiver: Receiver
) -> None:
    """Away for longer than a request and a heartbeat last: faust has to find its broker and its group again by itself."""
    servers = Infrastructure.given(own_kafka.address, infrastructure.registry_url, infrastructure.redis_url)
    with alerts(tmp_path, application_name, servers, receiver) as running:
        topic = running.topics.drift
        running.publish(topic, "Drift", finding(1))
        wait_for(lambda: running.lives() and len(receiver.posts) == 1 and models(running.told()) == ["m1"], "what came before is told")

        def away() -> int:
            """Sent, but not remembered as delivered: the broker is killed while the receiver has not answered yet."""
            receiver.before_answer = lambda: 200
            own_kafka.kill()
            return 200

        receiver.before_answer = away
        running.publish(topic, "Drift", finding(2))
        wait_for(lambda: not own_kafka.running and len(receiver.posts) == 2, "the broker is killed between sending and remembering")
        end = time.monotonic() + AWAY_S
        while time.monotonic() < end:
            assert running.lives()
            time.sleep(0.5)
        own_kafka.start()
        came_back = time.monotonic()
        for number in (3, 4):
            running.publish(topic, "Drift", finding(number))
        wait_for(lambda: running.lives() and {"m1", "m2", "m3", "m4"} <= set(models(running.told())), "everything is told, by the same process")
        wait_for(lambda: len({body["message_id"] for _, body in receiver.posts}) == 4, "the receiver has each message")
        after_s = time.monotonic() - came_back
        assert running.stop() == 0, running.log.read_text()
        by_model: dict[str, set[tuple[str, int]]] = {}
        for one in (told for told in running.told() if told["rule"] == "finding"):
            by_model.setdefault(one["labels"]["model"], set()).add((one["alert_id"], one["number"]))
        assert {model: len(ids) for model, ids in by_model.items()} == dict.fromkeys(("m1", "m2", "m3", "m4"), 1), "each alert has one id, said once"
        print(f"all told {after_s:.1f} s after the broker was back")

"""Nothing is sent before it is remembered, and nothing that is remembered is lost, wherever the process dies."""

import asyncio
import json

import pytest

from tests.unit.services.alerts.test_fold import EVENT, drift, fold, rule
from tidemill.services.alerts.channels.channel import Channel, NotSentError
from tidemill.services.alerts.desk import AlertDesk
from tidemill.services.alerts.domain.fold import AlertFold
from tidemill.services.alerts.domain.notification import Message
from tidemill.services.alerts.domain.outbox import UNDELIVERED
from tidemill.services.alerts.settings import AlertsSettings
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.observability.metrics import Metrics

SETTINGS = AlertsSettings(attempts=3, backoff_initial_s=0.001, backoff_max_s=0.002)


class Written:
    """A channel that writes down what it is given, and refuses as often as it is told to."""

    def __init__(self, refusals: int = 0, *, again: bool = True) -> None:
        self.messages: list[Message] = []
        self.refusals = refusals
        self._again = again

    async def send(self, message: Message) -> None:
        if self.refusals:
            self.refusals -= 1
            raise NotSentError("not now", again=self._again)
        self.messages.append(message)

    async def close(self) -> None:
        pass


class Life:
    """One life of the process: what it sends, and the last state that it remembered."""

    def __init__(self, state: bytes | None = None, ops: Written | None = None, rules: AlertFold | None = None) -> None:
        self.fold: AlertFold = rules or fold(rule("drifting", **EVENT))
        if state is not None:
            self.fold.load(state)
        self.state = state
        self.channels: dict[str, Channel] = {"log": Written(), "topic": Written(), "ops": ops or Written()}
        self.health, self.order = ProcessHealth(), list[str]()
        self.desk = AlertDesk(self.fold, self._remember, self.channels, SETTINGS, self.health, Metrics("alerts"))

    async def _remember(self, state: bytes) -> None:
        self.state = state
        self.order.append("remembered")

    def sent(self, channel: str) -> list[Message]:
        memory = self.channels[channel]
        assert isinstance(memory, Written)
        return memory.messages

    async def send(self, *, until_empty: bool = True) -> None:
        tasks = [asyncio.create_task(self.desk.send_all(channel)) for channel in self.channels]
        async with asyncio.timeout(10):
            while self.fold.outbox and until_empty:
                await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()


def test_what_was_remembered_and_not_sent_is_sent_by_the_next_life_with_the_same_ids() -> None:
    async def play() -> None:
        first = Life()
        await first.desk.take("drift", [drift(0, 0)])
        # It dies here: remembered, nothing sent.
        second = Life(first.state)
        ids = set(second.fold.outbox)
        await second.send()
        assert {message.message_id for channel in second.channels for message in second.sent(channel)} == ids
        # It dies before it remembers that it has sent.
        third = Life(first.state)
        await third.send()
        assert [message.message_id for message in third.sent("ops")] == [message.message_id for message in second.sent("ops")]
        fourth = Life(third.state)
        await fourth.send()
        await fourth.desk.take("drift", [drift(0, 0)])
        assert not fourth.sent("ops")
        assert not fourth.fold.outbox

    asyncio.run(play())


def test_what_is_taken_is_remembered_before_take_returns() -> None:
    async def play() -> None:
        life = Life()
        await life.desk.take("drift", [drift(0, 0)])
        assert life.order == ["remembered"]
        assert life.state == life.fold.snapshot()

    asyncio.run(play())


def test_a_channel_that_wakes_while_the_state_is_on_its_way_sends_nothing_of_it() -> None:
    """It was woken by what was remembered before; what is sent too soon comes again under another id after a kill."""
    remembered: list[set[str]] = []
    sent: list[bool] = []

    class Watched(Written):
        async def send(self, message: Message) -> None:
            sent.append(message.message_id in remembered[-1])

    async def remember(state: bytes) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        remembered.append({Message.load(one).message_id for one in json.loads(state)["outbox"]})

    async def play() -> None:
        life = Life()
        channels: dict[str, Channel] = {name: Watched() for name in life.channels}
        desk = AlertDesk(life.fold, remember, channels, SETTINGS, life.health, Metrics("alerts"))
        tasks = [asyncio.create_task(desk.send_all(channel)) for channel in channels]
        await asyncio.sleep(0.001)
        await desk.take("drift", [drift(0, 0, severity="info")])
        await desk.take("drift", [drift(1, 0)])
        while life.fold.outbox:
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()

    asyncio.run(play())
    assert sent == [True, True, True]


def test_a_receiver_that_refuses_for_a_while_gets_it_later_and_the_probe_says_so_meanwhile() -> None:
    async def play() -> None:
        life = Life(ops=Written(refusals=2))
        await life.desk.take("drift", [drift(0, 0)])
        await life.send()
        assert len(life.sent("ops")) == 1
        assert not life.health.troubles

    asyncio.run(play())


def test_at_the_end_of_a_replay_what_waits_for_its_group_is_sent_and_what_a_receiver_refuses_is_kept() -> None:
    async def play() -> None:
        life = Life(rules=fold(rule("drifting", **EVENT), group_wait_ms=60_000, channels={"ops": "info", "away": "info"}))
        life.channels["away"] = Written(refusals=99)
        patient = AlertsSettings(attempts=99, backoff_initial_s=30.0)
        life.desk = AlertDesk(life.fold, life._remember, life.channels, patient, life.health, Metrics("alerts"))
        tasks = [asyncio.create_task(life.desk.send_all(channel)) for channel in life.channels]
        await life.desk.take("drift", [drift(0, 0, model="a"), drift(1, 10, model="b")])
        assert not life.sent("ops")
        await life.desk.drain(0.3)
        for task in tasks:
            task.cancel()
        assert [[one.labels["model"] for one in message.notifications] for message in life.sent("ops")] == [["a", "b"]]
        again = fold(rule("drifting", **EVENT), channels={"away": "info"})
        assert life.state is not None
        again.load(life.state)
        assert [message.channel for message in again.outbox.values()] == ["away"]

    asyncio.run(play())


def test_a_quiet_year_is_not_worth_remembering_and_leaves_nothing_behind() -> None:
    async def play() -> None:
        life = Life()
        await life.desk.take("drift", [drift(0, 0)])
        await life.send()
        await life.desk.tick(7 * 3_600_000)  # resolve_after is over
        await life.send()
        written, size = len(life.order), len(life.fold.snapshot())
        for hour in range(8, 8_760):
            await life.desk.tick(hour * 3_600_000)
        assert len(life.order) == written
        assert len(life.fold.snapshot()) <= size + 8
        await life.desk.take("drift", [drift(1, 8_760 * 3_600_000)])
        await life.send()
        assert [message.notifications[0].status for message in life.sent("ops")] == ["firing", "resolved", "firing"]

    asyncio.run(play())


@pytest.mark.parametrize(("again", "attempts"), [(True, 3), (False, 1)])
def test_a_dead_end_is_reported_by_the_other_channels(again: bool, attempts: int) -> None:
    async def play() -> None:
        ops = Written(refusals=99, again=again)
        life = Life(ops=ops)
        await life.desk.take("drift", [drift(0, 0)])
        await life.send()
        assert ops.refusals == 99 - attempts
        assert not life.sent("ops")
        reports = [message.notifications[0] for message in life.sent("topic") if message.notifications[0].rule == UNDELIVERED]
        assert [report.detail for report in reports] == [f"not now, after {attempts} attempts"]
        assert "not sent" in life.health.troubles["alerts by ops"]

    asyncio.run(play())

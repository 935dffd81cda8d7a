"""`KafkaTransactionalSink`: the producer with transactions."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as Address

from tidemill.shared.kafka.bounded_calls import BoundedCalls, CallHangsError
from tidemill.shared.kafka.bulk_produce import BulkProduce
from tidemill.shared.kafka.connection import ALL_DOWN, MEMBER_FENCED, PRODUCER_FENCED, UNCLEAR, Connection, KafkaFailureError, Result
from tidemill.shared.kafka.plain_sink import ROOM, WRITING, produce_run
from tidemill.shared.kafka.written_places import WrittenPlaces
from tidemill.shared.log.broker import FencedError, TopicAwayError
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import Emission, TopicPartition

TRANSACTION_TIMEOUT_MS = 10_000
FLUSH_S = 5.0
# What the client logs when a connection broke or an answer did not come in time; its error callback hears of some of these only.
_BREAKS = ("FAIL", "REQTMOUT")
# What it logs when a transaction can only be aborted (a record was refused): what it waits to write then is not written any more.
_FAILED = "TXNERR"
_LOOK_S = 0.05
# Whoever waits longer for the client has no transaction any more: the broker has aborted it.
_HANGS_S = TRANSACTION_TIMEOUT_MS / 1000
_END_S = 5.0
# From this age on the broker may have ended a transaction by itself.
TIMED_OUT_S = TRANSACTION_TIMEOUT_MS / 1000
# A fatal state of the client that is of its own making, or of what became of its transaction: nothing but a new client leads out of it. The rest
# (fenced, not allowed, not supported) would be the new one's as well.
_WRECKED = {
    KafkaError._STATE,  # noqa: SLF001
    KafkaError._INCONSISTENT,  # noqa: SLF001
    KafkaError._FATAL,  # noqa: SLF001
    KafkaError._GAPLESS_GUARANTEE,  # noqa: SLF001
    KafkaError.INVALID_TXN_STATE,
    KafkaError.INVALID_PRODUCER_ID_MAPPING,
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
    KafkaError.DUPLICATE_SEQUENCE_NUMBER,
    KafkaError.UNKNOWN_PRODUCER_ID,
    KafkaError.CONCURRENT_TRANSACTIONS,
}


class KafkaTransactionalSink:
    """Transactional producer of one instance; made by `KafkaBroker.transactional_sink`.

    A request that ends a transaction carries nothing that names the transaction but the producer's epoch. One that is delayed, or sent
    again after its connection broke, may so end a *later* transaction of the same epoch (Jepsen on Bufstream, 2024; KIP-890 mends it for
    clients that bump the epoch with each transaction, which librdkafka does not: its issue 5423). So a connection that broke, or an
    answer that did not come, between begin and end costs the producer: a new one, whose epoch fences whatever is under way, and
    (TransientError) a restore of the tasks, which holds progress records and offsets against each other. So does a transaction that stood
    open for so long that the broker has aborted it, a client that does not come back from a call, and one in a fatal state that another
    would not be in: the broker says that a transaction is in another state than the client thinks, mostly after an election.
    """

    def __init__(self, connection: Connection, transactional_id: str) -> None:
        self._connection = connection
        self._id = transactional_id
        self._open = False
        self._fenced = False
        self._begun = 0.0
        self._bounded = BoundedCalls(_HANGS_S)
        self._places = WrittenPlaces()
        self._offsets: tuple[list[Address], Any] | None = None
        # A logger of its own, which nothing else hears: the client's remarks are looked at for breaks only.
        self._breaks = logging.Logger(f"{__name__}.{transactional_id}", logging.INFO)
        self._breaks.addFilter(self._note_remark)
        self._make()

    def _renew(self) -> None:
        """Replace the client."""
        # One with a fatal error, or one that hangs, may never come back from being destroyed.
        gone: list[object] = [self._bulk, self._producer]
        del self._bulk, self._producer
        threading.Thread(target=gone.clear, name="retired-producer", daemon=True).start()
        self._make()

    def _make(self) -> None:
        """Make a new client."""
        # Runs come whole and gather while their partition joins the transaction: lingering would only keep them until the offsets have been sent.
        settings = self._connection.settings(
            **WRITING,
            linger_ms=0,
            transactional_id=self._id,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            error_cb=self._note_error,
        )
        self._producer = Producer({**settings, "log_level": 6}, logger=self._breaks)
        self._bulk = BulkProduce.of(self._producer, ROOM)
        self._lost = self._unclear = self._failed = False

    def open(self) -> None:
        """Fence predecessors and abort what they left open."""
        self._call("init", lambda: self._producer.init_transactions(5.0))
        self._lost = False

    def _reopen(self) -> None:
        """Replace a client that has lost every broker; what it left open is aborted.

        A broker that is back is another connection to it: librdkafka 2.16 may go on waiting for the one it has given up (its issue 5511). It also
        says that every broker is down when a broker closes an idle connection, so nothing but the client is given up here.
        """
        self._renew()
        # Lost as well until it has its id: who tries again makes another one.
        self._open, self._lost = False, True
        self.open()

    def begin(self) -> None:
        """Start a transaction."""
        self._places, self._offsets = WrittenPlaces(), None
        self._producer.poll(0)
        if self._lost:
            self._reopen()
        self._unclear = self._failed = False
        self._begun = time.monotonic()
        self._call("begin", self._producer.begin_transaction)
        self._open = True

    def produce(self, emission: Emission) -> None:
        """Add records."""
        self._places.ask(emission)
        doing, note = f"produce to {emission.topic}:{emission.partition}", self._places.note
        try:
            self._call(doing, lambda: produce_run(self._producer, self._bulk, emission, note))
        except Exception:
            # What was written before may have been refused meanwhile: then that is the reason, and to commit is to be told it.
            self._producer.poll(_LOOK_S)
            if self._failed:
                self._call("commit", lambda: self._producer.commit_transaction(5.0))
            raise

    def send_offsets(self, offsets: Mapping[TopicPartition, int], membership: object) -> None:
        """Add the group's offsets while the caller works on; `commit` hears of the outcome.

        Bounded, since librdkafka 2.16 does not keep to the call's own time-out (its issue 5456).
        """
        self._offsets = [Address(partition.topic, partition.partition, offset) for partition, offset in offsets.items()], membership
        self._begin_offsets()

    def commit(self) -> Mapping[TopicPartition, int]:
        """Make everything visible."""
        if self._offsets is not None:
            self._call("offsets", self._finish_offsets)
        if self._places.asked and self._are_written():
            if not self._places.acknowledged:
                raise self._unwritten()
            self._places.check()
        tries = 0

        def commit() -> None:
            nonlocal tries
            tries += 1
            self._producer.commit_transaction(_END_S)

        self._end("commit", commit)
        self._open = False
        self._producer.poll(0)
        if self._unclear or tries > 1:
            self._lost = True
            raise TransientError(
                f"transactional id {self._id}: the transaction was committed, but not with the first answer to each of its requests:"
                " a new producer fences what may still be under way, and the tasks are restored"
            )
        # The marker of the transaction takes an offset too.
        return {place: end + 1 for place, end in self._places.ends.items()}

    def abort(self) -> None:
        """Drop the open transaction; of a fenced producer the successor has done so."""
        if self._fenced:
            return
        if self._bounded.pending:
            # The transaction is dropped, whatever became of its offsets.
            with suppress(KafkaException, TransientError):
                self._within(self._bounded.result)
        if self._lost:
            self._reopen()
        if self._open:
            # Records still queued are written first: dropping them here would leave a gap in the sequence numbers, over which the next commit fails.
            # What a flush fails over (a fenced producer) the abort reports.
            with suppress(KafkaException):
                self._within(lambda: self._bounded.call(f"{self._id} flushes", lambda: self._producer.flush(1.0)))
            self._end("abort", lambda: self._bounded.call(f"{self._id} aborts", lambda: self._producer.abort_transaction(_END_S)))
            self._open = False
            self._producer.poll(0)
            self._lost = self._lost or self._unclear

    def close(self) -> None:
        """Abort and stop; what a lost client has left open, its successor aborts."""
        if not self._lost:
            self.abort()
        self._bounded.close()

    def _begin_offsets(self) -> None:
        self._producer.poll(0)
        if self._lost:
            raise TransientError(f"transactional id {self._id}: every broker was lost in mid-transaction")
        assert self._offsets is not None  # noqa: S101 - the callers' branch
        addresses, membership = self._offsets
        self._bounded.begin(f"{self._id} adds offsets", lambda: self._producer.send_offsets_to_transaction(addresses, membership, 5.0))

    def _finish_offsets(self) -> None:
        """Wait for them; called again after an error that goes away, try again."""
        if not self._bounded.pending:
            self._begin_offsets()
        self._bounded.result()

    def _are_written(self) -> bool:
        """Write what is queued; False when the transaction has failed, so that the client's commit does nothing but say why."""
        deadline = time.monotonic() + FLUSH_S
        while self._call("write", lambda: self._producer.flush(_LOOK_S)) and not self._failed and time.monotonic() < deadline:
            continue
        return not self._failed

    def _unwritten(self) -> TransientError:
        """Say why records are not acknowledged: a topic that is gone holds up all of its transaction."""
        topics = self._call("metadata of the topics written to", lambda: self._producer.list_topics(timeout=2.0)).topics
        gone = [topic for topic in sorted(self._places.topics) if topic not in topics or topics[topic].error is not None]
        name = f"transactional id {self._id}"
        if gone:
            return TopicAwayError(f"{name}: there is no topic {', '.join(gone)}: what was to be written with it is undone until somebody makes it")
        return TransientError(
            f"{name}: {len(self._producer)} records for {', '.join(sorted(self._places.topics))} are not acknowledged within {FLUSH_S:.0f} s"
        )

    def _note_remark(self, remark: logging.LogRecord) -> bool:
        said = remark.getMessage()
        self._unclear = self._unclear or said.startswith(_BREAKS)
        self._failed = self._failed or said.startswith(_FAILED)
        return False

    def _note_error(self, error: KafkaError) -> None:
        self._lost = self._lost or error.code() == ALL_DOWN
        self._unclear = self._unclear or error.code() in UNCLEAR

    def _end(self, doing: str, action: Callable[[], None]) -> None:
        """End the transaction; a client that has no answer when the broker would have ended it by itself is given up for another.

        It may be waiting for a coordinator that is none any more; another client asks who is.
        """
        begun = time.monotonic()

        def attempt() -> None:
            if time.monotonic() - begun > _HANGS_S:
                self._lost = True
                raise TransientError(
                    f"transactional id {self._id}: {doing}: no answer within {_HANGS_S:.0f} s: a new producer takes the place of this one,"
                    " and the tasks are restored from what the log says"
                )
            action()

        self._call(doing, attempt)

    def _within(self, action: Callable[[], Result]) -> Result:
        """Do something; a client that does not come back from it is given up, and so is the thread it hangs in."""
        try:
            return action()
        except CallHangsError as problem:
            self._bounded.close()
            self._bounded = BoundedCalls(_HANGS_S)
            self._lost = True
            raise TransientError(f"transactional id {self._id}: {problem}: a new producer takes its place, and the tasks are restored") from problem

    @staticmethod
    def _code(problem: FencedError) -> int | None:
        """Return what the broker said."""
        cause = problem.__cause__
        return int(cause.args[0].code()) if isinstance(cause, KafkaException) else None

    def _call(self, doing: str, action: Any) -> Any:
        try:
            return self._within(lambda: self._connection.call(f"transactional id {self._id}: {doing}", action))
        except KafkaFailureError as problem:
            error = problem.__cause__.args[0] if isinstance(problem.__cause__, KafkaException) else None
            if error is None or not error.fatal() or error.code() not in _WRECKED:
                raise
            self._lost = True
            raise TransientError(f"{problem}: a new producer takes the place of this one, and the tasks are restored") from problem
        except FencedError as problem:
            if self._code(problem) == MEMBER_FENCED:
                # Nothing of it is committed, and whether the name has another holder its member of the group finds out.
                raise TransientError(f"{problem}: the group knows another member of this name, or has lost this one") from problem
            if self._open and self._code(problem) in PRODUCER_FENCED and (age_s := time.monotonic() - self._begun) >= TIMED_OUT_S:
                # While a leader or coordinator is elected, nothing ends it in time. A successor, should there be one, shows in the group: its member
                # fences this one's. It loses its transaction to the new producer, and nothing else: each commit proves that nobody else has written.
                self._lost, self._open = True, False
                raise TransientError(
                    f"{problem}: the transaction stood open for longer than {TRANSACTION_TIMEOUT_MS / 1000:.0f} s ({age_s:.0f} s), so the broker has"
                    " aborted it and fenced its producer: a new one takes its place, and the tasks are restored"
                ) from problem
            # Fatal is the producer's own fencing, not its group's: the successor has aborted what was open. To abort it here fails after a minute.
            if isinstance(problem.__cause__, KafkaException) and problem.__cause__.args[0].fatal():
                self._fenced, self._open = True, False
            raise

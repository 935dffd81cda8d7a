"""The Kafka clients of a running stage: what opens them, drops an open transaction, and closes them."""

import logging
import threading
from collections.abc import Sequence

from tidemill.shared.log.broker import Reader, Source, TransactionalSink
from tidemill.shared.log.errors import TransientError

log = logging.getLogger(__name__)
_CLOSING_S = 10.0


class StageClients:
    """Source, transactional sink and reader of one stage, which live and end together.

    Parameters
    ----------
    topics
        What the source subscribes to.
    """

    def __init__(self, source: Source, sink: TransactionalSink, reader: Reader, topics: Sequence[str]) -> None:
        self._source = source
        self._sink = sink
        self._reader = reader
        self._topics = topics
        self._sink_opened = self._subscribed = False
        # What an abort that failed has left open: nothing is begun before it is dropped.
        self._unaborted = False

    def open(self) -> bool:
        """Drop what an abort has left open, and open what is not open yet; True when the source has just joined the group.

        Raises
        ------
        TransientError
            The server is away (retry: what is open stays open).
        """
        if self._unaborted:
            self.abort()
        if not self._sink_opened:
            self._sink.open()
            self._sink_opened = True
        if self._subscribed:
            return False
        self._source.subscribe(self._topics)
        self._subscribed = True
        return True

    def abort(self) -> None:
        """Drop the open transaction; one that cannot be dropped now is dropped before the next step."""
        self._unaborted = True
        self._sink.abort()
        self._unaborted = False

    def close(self, *, leave: bool) -> None:
        """Abort what is open, and close.

        Parameters
        ----------
        leave
            Whether the other instances are to have the partitions; otherwise the group keeps them for an instance of this name.
        """
        try:
            self._sink.close()
        except TransientError as problem:
            log.warning("a transaction is left open: who comes next aborts it, or the broker when its time is over", extra={"error": str(problem)})
        if leave and self._subscribed:
            self._source.leave()
        self._source.close()
        self._reader.close()

    def close_after(self, problem: BaseException) -> None:
        """Close for a bounded time after a failure; what goes wrong with it becomes a note of the failure.

        A client with a fatal error may never come back from being closed.
        """
        closing = threading.Thread(target=self._close_noting, args=(problem,), name="closing", daemon=True)
        closing.start()
        closing.join(_CLOSING_S)
        if closing.is_alive():
            problem.add_note(f"the clients did not close within {_CLOSING_S:.0f} s")

    def _close_noting(self, problem: BaseException) -> None:
        try:
            self.close(leave=False)
        except Exception as second:
            problem.add_note(f"closing failed as well: {second}")

"""A TCP proxy before a Kafka broker that sees its requests, and can hold back, delay or lose those that make up transactions."""

import socket
import struct
import threading
import time
from dataclasses import dataclass, field

from tests.patience import patient

ADD_PARTITIONS, ADD_OFFSETS, END_TXN = 24, 25, 26


@dataclass
class Seen:
    """A request to the coordinator of a transaction: who asks, and what the broker answered (None: nothing yet)."""

    producer_id: int
    epoch: int
    frame: bytes
    api: int = END_TXN
    error: int | None = None


@dataclass
class KafkaProxy:
    """Stands on a port of its own; brokers that name themselves in answers are given its port, so that clients stay with it.

    Attributes
    ----------
    api
        Which requests are looked at.
    lose_answers
        Of so many of them the answer is lost and the connection closed.
    hold_requests
        So many of them do not reach the broker; the connection is closed.
    delay_requests, delay_s
        So many of them reach the broker so much later.
    changed_answers, error
        In so many of their answers this error stands in place of the broker's own.
    """

    host: str
    port: int
    api: int = END_TXN
    lose_answers: int = 0
    hold_requests: int = 0
    delay_requests: int = 0
    delay_s: float = 1.0
    changed_answers: int = 0
    error: int = 0
    seen: list[Seen] = field(default_factory=list)
    held: list[Seen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = socket.create_server((self.host, 0))
        self.address = f"{self.host}:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more clients."""
        self._server.close()

    def deliver(self, late: Seen) -> int:
        """Let a held request reach the broker after all; the error code of its answer."""
        with socket.create_connection((self.host, self.port), timeout=patient(10)) as broker:
            broker.sendall(late.frame)
            answer = _frame(broker)
        if answer is None:
            raise ConnectionError("the broker closed the connection without an answer")
        return _error(answer, late.api)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Pass requests and answers on, in turns: a client may have several requests under way, and a broker answers them in order."""
        own = int(self.address.rpartition(":")[2])
        real, ours = (self.host.encode() + struct.pack(">i", port) for port in (self.port, own))
        try:
            broker = socket.create_connection((self.host, self.port))
        except OSError:
            client.close()
            return
        with client, broker:

            def answers() -> None:
                while (answer := _frame(broker)) is not None:
                    known = waiting.pop(struct.unpack_from(">i", answer, 4)[0], None)
                    if known is not None:
                        if self.changed_answers:
                            self.changed_answers -= 1
                            answer = answer[:12] + struct.pack(">h", self.error) + answer[14:]
                        known.error = _error(answer, known.api)
                        if self.lose_answers:
                            self.lose_answers -= 1
                            break
                    try:
                        client.sendall(answer.replace(real, ours))
                    except OSError:
                        break
                _end(client)

            waiting: dict[int, Seen] = {}
            threading.Thread(target=answers, daemon=True).start()
            while (request := _frame(client)) is not None:
                api, _, correlation = struct.unpack_from(">hhi", request, 4)
                if api == self.api:
                    request_seen = _request(request, api)
                    self.seen.append(request_seen)
                    if self.hold_requests:
                        self.hold_requests -= 1
                        self.held.append(request_seen)
                        break
                    if self.delay_requests:
                        self.delay_requests -= 1
                        time.sleep(self.delay_s)
                    waiting[correlation] = request_seen
                try:
                    broker.sendall(request)
                except OSError:
                    break
            _end(client)
            _end(broker)


def _end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _frame(connection: socket.socket) -> bytes | None:
    """One request or answer with its length; None at the connection's end."""
    content = b""
    while len(content) < 4 or len(content) < 4 + struct.unpack_from(">i", content)[0]:
        wanted = 4 if len(content) < 4 else 4 + struct.unpack_from(">i", content)[0]
        try:
            more = connection.recv(wanted - len(content))
        except OSError:
            return None
        if not more:
            return None
        content += more
    return content


def _request(request: bytes, api: int) -> Seen:
    """All of them begin alike in the versions that librdkafka speaks: transactional id, producer id, epoch."""
    at = 12
    for _ in ("client id", "transactional id"):
        at += 2 + max(0, struct.unpack_from(">h", request, at)[0])
    producer_id, epoch = struct.unpack_from(">qh", request, at)
    return Seen(int(producer_id), int(epoch), request, api)


def _error(answer: bytes, api: int) -> int:
    """Error code of an answer: behind length, correlation id and throttle time; of AddPartitions that of the first partition."""
    at = 12
    if api == ADD_PARTITIONS:
        at += 4 + 2 + int(struct.unpack_from(">h", answer, 16)[0]) + 4 + 4
    return int(struct.unpack_from(">h", answer, at)[0])

"""A stage that is struck in the middle of its answer is one that is not ready, and no end of the campaign."""

import socket
import threading
from collections.abc import Iterator

import pytest

from campaigns.chaos.machine import Machine
from tests.patience import patient


@pytest.fixture(params=["stays", "hangs up"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """Of a server that begins to say why it is not ready, and then is stopped or killed."""
    over = threading.Event()

    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1_000)
            connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 100\r\n\r\nwaits for")
            if request.param == "stays":
                over.wait(patient(10))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1]
        over.set()
        thread.join()


def test_an_answer_that_breaks_off_says_so(port: int) -> None:
    machine = Machine.__new__(Machine)
    machine._ports = {"scoring": port}
    assert machine.unready("scoring") == "(an answer without an end)"

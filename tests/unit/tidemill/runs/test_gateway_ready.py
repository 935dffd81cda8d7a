"""A run tells its user what to send once somebody listens; it does not wait for ever, nor after it was stopped."""

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

from tidemill.deploy.embedded.component import free_port
from tidemill.runs.gateway_ready import wait_for_gateway


class Live(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/live" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_it_waits_until_somebody_listens() -> None:
    port = free_port()
    looks: list[int] = []
    servers: list[HTTPServer] = []

    def goes_on() -> bool:
        looks.append(1)
        if len(looks) == 2:
            servers.append(HTTPServer(("127.0.0.1", port), Live))
            threading.Thread(target=servers[0].serve_forever, daemon=True).start()
        return True

    try:
        assert wait_for_gateway(f"http://127.0.0.1:{port}", goes_on) and len(looks) == 2
    finally:
        servers[0].shutdown()
        servers[0].server_close()


def test_it_ends_with_the_run_and_at_its_deadline() -> None:
    address = f"http://127.0.0.1:{free_port()}"
    assert not wait_for_gateway(address, lambda: False)
    begin = time.monotonic()
    assert not wait_for_gateway(address, lambda: True, deadline_s=0.1)
    assert time.monotonic() - begin < 30, "half of the usual deadline"

"""Liveness, readiness and metrics over HTTP, on a thread of its own."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

WAITING = "waiting for a server"


class ProcessHealth:
    """What a process says about itself.

    Live: the loop has advanced its offsets, or found nothing to do, within `stalled_after_s`. A loop that hangs in a call, or that
    retries the same transaction for ever, stops being live. Ready: partitions are assigned, their state is restored, and no server is waited for
    (the trouble `WAITING`).

    Parameters
    ----------
    stalled_after_s
        Must exceed the longest step, restore included (`restoring` counts as progress).
    clock
        Monotonic seconds.
    """

    def __init__(self, stalled_after_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stalled_after_s = stalled_after_s
        self._advanced = clock()
        self._ready = False
        self.advances = 0
        self.warm = False
        self.troubles: dict[str, str] = {}

    def report(self, what: str, detail: str | None) -> None:
        """Note something that is wrong while the process works on, or (None) that it is over; the probes show it."""
        if detail is None:
            self.troubles.pop(what, None)
        else:
            self.troubles[what] = detail

    def advanced(self) -> None:
        """Note progress: a commit, an idle step, a piece of a restore."""
        self._advanced = self._clock()
        self.advances += 1

    def set_warm(self, warm: bool) -> None:
        """Note whether every stage has worked on data since its state was restored: what that takes, and a first time (kernels, models), is over."""
        self.warm = warm

    def set_ready(self, ready: bool) -> None:
        """Note readiness."""
        self._ready = ready

    @property
    def live(self) -> bool:
        """Whether the loop advances."""
        return self._clock() - self._advanced < self._stalled_after_s

    @property
    def ready(self) -> bool:
        """Whether work can be done now."""
        return self._ready and self.live and WAITING not in self.troubles


class HealthServer:
    """Serves ``/live``, ``/ready`` (200 or 503) and ``/metrics``; a context manager.

    Parameters
    ----------
    port
        0 takes any free one (see `port` afterwards).
    """

    def __init__(self, health: ProcessHealth, registry: CollectorRegistry, port: int = 0, host: str = "127.0.0.1") -> None:
        self._server = ThreadingHTTPServer((host, port), _handler(health, registry))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="health", daemon=True)

    @property
    def port(self) -> int:
        """Port listened on."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(health: ProcessHealth, registry: CollectorRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
            elif self.path in ("/live", "/ready"):
                good = health.live if self.path == "/live" else health.ready
                body = json.dumps(
                    {"live": health.live, "ready": health.ready, **({"troubles": dict(health.troubles)} if health.troubles else {})}
                ).encode()
                self._answer(200 if good else 503, "application/json", body)
            else:
                self._answer(404, "text/plain", b"expected /live, /ready or /metrics\n")

        def log_message(self, format: str, *args: object) -> None:
            """Keep probes out of the log."""

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler

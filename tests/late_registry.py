"""A schema registry in this process that does not answer at first, as one that is restarted: an HTTP server over `MemorySchemaRegistry`."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from tidemill.shared.avro.registry import MemorySchemaRegistry


class LateRegistry:
    """Answers with 503 until `answers` is set; a context manager.

    Attributes
    ----------
    refused
        How many requests were not answered.
    """

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.refused = 0
        self._schemas = MemorySchemaRegistry()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                kind, _, rest = self.path.strip("/").partition("/")
                if kind == "config":
                    self._answer({"compatibilityLevel": "BACKWARD_TRANSITIVE"})
                else:
                    self._answer({"schema": registry._schemas.schema(int(rest.rpartition("/")[2]))})

            def do_POST(self) -> None:
                given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer({"id": registry._schemas.register("any", given["schema"])})

            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self._answer({"compatibility": "BACKWARD_TRANSITIVE"})

            def _answer(self, body: dict[str, object]) -> None:
                good = registry.answers.is_set()
                registry.refused += not good
                text = json.dumps(body if good else {"error_code": 50302, "message": "is starting"}).encode()
                self.send_response(200 if good else 503)
                self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: object) -> None:
                """Keep the test's output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

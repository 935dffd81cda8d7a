"""Receive the alerts of a webhook channel: take none that is not signed with the shared key, is old, or was taken before.

    WEBHOOK_KEY='at least 16 characters' python webhook.py [--port 8090]

The signature is the HMAC-SHA256 of the timestamp, a full stop and the body as it came. It is checked before the body is parsed.
"""

import argparse
import hashlib
import hmac
import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

OLDEST_S = 300
LARGEST_BYTES = 1_000_000


def genuine(key: bytes, timestamp: str, body: bytes, signature: str, now_s: float) -> bool:
    """Say whether whoever sent this has the key, and sent it within the last five minutes."""
    expected = "v1=" + hmac.new(key, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    # compare_digest takes as long for a wrong first character as for a wrong last one, so that nobody can guess their way.
    same = hmac.compare_digest(expected.encode(), signature.encode())
    return same and timestamp.isdigit() and abs(now_s - int(timestamp)) <= OLDEST_S


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 to what was taken, now or before; 401 to what is not genuine. Anything but 2xx makes the sender give up or try again."""

    key = b""
    # A message that is sent again has the same id. Keep these where they outlive your process.
    taken: ClassVar[set[str]] = set()

    def do_POST(self) -> None:
        """Check, take, answer."""
        length = int(self.headers.get("Content-Length") or 0)
        if length > LARGEST_BYTES:
            return self._answer(413)
        body, timestamp = self.rfile.read(length), self.headers.get("X-Tidemill-Timestamp", "")
        if not genuine(self.key, timestamp, body, self.headers.get("X-Tidemill-Signature", ""), time.time()):
            return self._answer(401)
        message_id = self.headers.get("X-Tidemill-Message-Id", "")
        if message_id not in self.taken:
            # Take it first and remember it then: a failure in between has it sent again.
            print(json.dumps(json.loads(body)), flush=True)
            self.taken.add(message_id)
        return self._answer(204)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing but alerts."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print the alerts that come by webhook as lines of JSON.")
    parser.add_argument("--port", type=int, default=8090)
    given = parser.parse_args()
    Receiver.key = os.environ["WEBHOOK_KEY"].encode()
    with ThreadingHTTPServer(("127.0.0.1", given.port), Receiver) as server:
        server.serve_forever()

"""Writes and reads of the online store, and reads through the gateway, on a real Redis: ``python -m benchmarks.online_reads``.

Prints one table. Seeded; runs the embedded Redis in a folder of its own and the gateway as the process it is in production. Latencies
are those of one caller that waits for each answer, with nothing else at work and with a writer at full speed beside it; the bare PING of
the same run says what the machine's other work does to any round trip.
"""

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

from tidemill.deploy.embedded.component import Component, accepts_connections, free_port
from tidemill.deploy.embedded.redis_server import redis_component
from tidemill.shared.application.planning import load_plan
from tidemill.shared.online_store.redis_store import RedisOnlineStore
from tidemill.shared.online_store.store import FeatureSlice

ROOT = Path(__file__).parents[1]
SEED = 7
ENTITY = "aircraft"  # It has a time to live.
SLICE = 10_000


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--entities", type=int, default=200_000)
    arguments.add_argument("--reads", type=int, default=20_000)
    arguments.add_argument("--gateway-reads", type=int, default=5_000)
    arguments.add_argument("--application", type=Path, default=ROOT / "examples" / "flights")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = redis_component(Path(folder), free_port())
        server.start()
        try:
            for line in measure(server, given):
                print(line, flush=True)
        finally:
            server.stop()


def measure(server: Component, given: argparse.Namespace) -> Iterator[str]:
    plan = load_plan(given.application)
    store = RedisOnlineStore(server.address, plan)
    rng = np.random.default_rng(SEED)
    keys = [f"N{i:06d}" for i in range(given.entities)]
    values = rng.normal(size=(given.entities, len(store.layouts[ENTITY].features)))
    yield f"{given.entities:,} entities of {values.shape[1]} features, guard and time to live on; median of 5 passes, spread in brackets"
    yield "| what | value |"
    yield "|---|---|"
    redis_process = psutil.Process(server.pid)
    client, backend, wall = np.array([write_all(store, keys, values, offset, redis_process) for offset in range(1, 6)]).T
    yield f"| entity writes per client CPU-second | {spread(given.entities / client)} |"
    yield f"| entity writes per Redis CPU-second | {spread(given.entities / backend)} |"
    yield f"| entity writes per second, one writer | {spread(given.entities / wall)} |"
    chosen = [keys[i] for i in rng.integers(0, given.entities, given.reads)]
    chosen[::20] = [f"unknown-{i}" for i in range(len(chosen[::20]))]

    def read(key: str) -> None:
        rows = store.read_features(ENTITY, [key])
        assert rows.status[0] == ("missing" if key.startswith("unknown") else "found")

    def read_hundred(key: str) -> None:
        at = min(int(key[1:]) if key[1:].isdigit() else 0, given.entities - 100)
        assert len(store.read_features(ENTITY, keys[at : at + 100])) == 100

    with socket.create_connection(("127.0.0.1", int(server.address.rsplit(":", 1)[1].split("/")[0]))) as bare:
        bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def ping(_key: str) -> None:
            bare.sendall(b"PING\r\n")
            assert bare.recv(64) == b"+PONG\r\n"

        yield f"| for comparison: a bare PING on a socket, p50 / p99 | {latency(ping, chosen)} |"
    used = time.process_time()
    yield f"| read of one entity, Python, p50 / p99 | {latency(read, chosen)} |"
    yield f"| CPU of the reader per read | {(time.process_time() - used) / len(chosen) * 1e6:.0f} us |"
    yield f"| read of 100 entities, Python, p50 / p99 | {latency(read_hundred, chosen[: given.reads // 10])} |"
    with gateway(server, given.application) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port)

        def get(key: str) -> None:
            connection.request("GET", f"/v1/features/{ENTITY}/{key}")
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200 and json.loads(body)["status"] in ("found", "missing")

        few = chosen[: given.gateway_reads]
        latency(get, few[:500])
        yield f"| read of one entity, gateway, p50 / p99 | {latency(get, few)} |"
        with writing(store, keys, values):
            yield f"| read of one entity, Python, a writer at full speed beside it, p50 / p99 | {latency(read, few)} |"
            connection.close()  # It has been idle meanwhile; the next request opens it again.
            yield f"| read of one entity, gateway, a writer at full speed beside it, p50 / p99 | {latency(get, few)} |"
        connection.close()
    store.close()


def write_all(store: RedisOnlineStore, keys: list[str], values: np.ndarray, offset: int, server: psutil.Process) -> tuple[float, float, float]:
    """Write every entity once; returns the client's CPU seconds, Redis's, and the time on the wall."""
    wall, client, backend = time.perf_counter(), time.process_time(), cpu_s(server)
    for begin in range(0, len(keys), SLICE):
        part = slice(begin, begin + SLICE)
        receipt = store.write(ENTITY, FeatureSlice(0, keys[part], values[part], offset, time.time_ns() // 1_000_000))
        assert receipt.written == len(keys[part])
    return time.process_time() - client, cpu_s(server) - backend, time.perf_counter() - wall


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def latency(ask: Callable[[str], None], keys: list[str]) -> str:
    taken = np.empty(len(keys))
    for i, key in enumerate(keys):
        begun = time.perf_counter()
        ask(key)
        taken[i] = time.perf_counter() - begun
    p50, p99 = np.percentile(taken * 1e3, [50, 99])
    return f"{p50:.2f} / {p99:.2f} ms"


def spread(values: np.ndarray) -> str:
    return f"{np.median(values):,.0f} [{values.min():,.0f}, {values.max():,.0f}]"


@contextmanager
def gateway(server: Component, application: Path) -> Iterator[int]:
    """Run the gateway as a process; gives its port."""
    port = free_port()
    environment = {
        **os.environ, "TIDEMILL_APPLICATION": str(application), "TIDEMILL_REDIS__URL": server.address, "TIDEMILL_GATEWAY__PORT": str(port),
        "TIDEMILL_LOG_LEVEL": "ERROR", "TIDEMILL_GATEWAY__REQUESTS_PER_S": "1e6", "TIDEMILL_GATEWAY__BURST": "1000000",
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "tidemill.services.gateway"], env=environment, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not accepts_connections(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the gateway did not come up within 60 s (exit code {process.poll()})")
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def writing(store: RedisOnlineStore, keys: list[str], values: np.ndarray) -> Iterator[None]:
    """Write all entities over and over on a thread, as the features service does."""
    stop = threading.Event()

    def write() -> None:
        offset = 1_000
        while not stop.is_set():
            for begin in range(0, len(keys), SLICE):
                part = slice(begin, begin + SLICE)
                store.write(ENTITY, FeatureSlice(0, keys[part], values[part], offset, 1))
                if stop.is_set():
                    break
            offset += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


if __name__ == "__main__":
    main()

"""The guide's own examples, run as they stand there: Python on a real Redis, curl as requests to the gateway."""

import contextlib
import io
import json
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from tests.online_features import FLIGHTS, Clock
from tidemill.deploy.embedded.component import free_port
from tidemill.deploy.embedded.redis_server import redis_component
from tidemill.services.gateway.app import build_app
from tidemill.services.gateway.features import ThreadedReader
from tidemill.shared.application.planning import load_plan
from tidemill.shared.online_store.redis_store import RedisOnlineStore
from tidemill.shared.online_store.store import FeatureSlice

GUIDE = (Path(__file__).parents[2] / "docs" / "guide" / "online-features.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
NOON = 1_362_139_200_000
NOW = NOON + 1_500
WRITTEN = {"N14228": ([12.0, 3600.0, 4.5, 8.2, 6.0], 81_234, NOON), "N24211": ([1.0] * 5, 512, NOW - 5_184_001_000)}


class NeverPublishes:
    async def publish(self, topic: str, key: bytes, value: bytes) -> tuple[int, int]:
        raise ConnectionError("no broker here")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A Redis that holds what the guide reads."""
    server = redis_component(tmp_path / "redis", free_port())
    server.start()
    for key, (values, offset, time_ms) in WRITTEN.items():
        store = RedisOnlineStore(server.address, load_plan(FLIGHTS), Clock(time_ms))
        generation = store.write("aircraft", FeatureSlice(0, [key], np.array([values]), offset, time_ms)).generation
        store.write("aircraft", FeatureSlice(0, [], np.empty((0, 5)), offset, time_ms, generation, completes=True))
        store.close()
    yield server.address
    server.stop()


def blocks(language: str) -> list[str]:
    return [text for named, text in BLOCKS if named == language]


def test_the_python_example_prints_what_the_guide_says(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    [source], [printed] = blocks("python"), blocks("text")
    assert "redis://127.0.0.1:6379/0" in source
    monkeypatch.setattr(time, "time_ns", lambda: NOW * 1_000_000)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(source.replace("redis://127.0.0.1:6379/0", address), "online-features.md", "exec"), {"__name__": "guide"})
    assert output.getvalue() == printed


def test_the_curl_examples_answer_what_the_guide_says(address: str) -> None:
    store = RedisOnlineStore(address, load_plan(FLIGHTS), Clock(NOW))
    client = TestClient(build_app(load_plan(FLIGHTS), ThreadedReader(store), NeverPublishes()))
    commands, answers = blocks("sh"), blocks("json")
    assert len(commands) == len(answers) == 2
    for command, answer in zip(commands, answers, strict=True):
        words = shlex.split(command)
        assert words[:2] == ["curl", "-s"]
        url = next(word for word in words if word.startswith("http://127.0.0.1:8080/"))
        method = words[words.index("-X") + 1] if "-X" in words else "GET"
        headers = dict(words[i + 1].split(": ", 1) for i, word in enumerate(words) if word == "-H")
        body = words[words.index("-d") + 1] if "-d" in words else None
        response = client.request(method, url.removeprefix("http://127.0.0.1:8080"), headers=headers, content=body)
        assert (response.status_code, response.json()) == (200, json.loads(answer) | {"layout": store.layouts["aircraft"].digest})
    store.close()

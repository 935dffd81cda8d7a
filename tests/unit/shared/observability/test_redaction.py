"""No password and no token in a log, an error or an answer, whoever wrote the message."""

import asyncio
import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from pydantic import SecretStr, ValidationError

from tests.patience import patient
from tidemill.runs.instance import Instance
from tidemill.runs.settings import SettingsError, read_settings
from tidemill.services.cli.doctor import findings
from tidemill.services.gateway.settings import DoorSettings, GatewaySettings, TokenSettings
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.log.errors import TransientError
from tidemill.shared.observability.logging import configure_logging
from tidemill.shared.observability.redaction import Redactor, redacted, secrets_of
from tidemill.shared.observability.settings import CommandsSettings, KafkaSettings, RedisSettings, RegistrySettings, ServiceSettings
from tidemill.shared.observability.settings_problem import settings_problem
from tidemill.shared.online_store.redis_reader import RedisFeatureReader
from tidemill.shared.online_store.redis_store import RedisOnlineStore
from tidemill.shared.online_store.store import OnlineStoreUnavailableError

ROOT = Path(__file__).parents[4]
PLAN = load_plan(ROOT / "examples" / "flights")
SECRET = "S3cretPassw0rd"


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (f"redis://:{SECRET}@db:6379/0 refused", "redis://***@db:6379/0 refused"),
        (f"http://user:{SECRET}@registry/apis, and https://a/b@c", "http://***@registry/apis, and https://a/b@c"),
        (f"rediss://u:p@{SECRET}@db/0", "rediss://***@db/0"),
        (f"redis://:a/{SECRET}@db:6379/0 refused, http://h:8081/a/b", "redis://***@db:6379/0 refused, http://h:8081/a/b"),
        (f"redis://:12345/{SECRET}@db:6379/0 refused, http://me:1/{SECRET}@h/x", "redis://:***@db:6379/0 refused, http://me:***@h/x"),
        (
            f'{{"url":"http://h:8081/a","mail":"a@b","next":"http://h:8081/{SECRET}@b"}}',
            '{"url":"http://h:8081/a","mail":"a@b","next":"http://h:***@b"}',
        ),
        (f"{{'url': \"redis://:a'{SECRET}\\\"<@db/0\"}}", "{'url': \"redis://***@db/0\"}"),
        (f"sasl.password={SECRET}", "sasl.password=***"),
        (f"{{'sasl.password': '{SECRET}', 'acks': 'all'}}", "{'sasl.password': '***', 'acks': 'all'}"),
        (f'{{"basic.auth.user.info": "me:{SECRET}"}}', '{"basic.auth.user.info": "***"}'),
        (f"redis://db/0?password={SECRET}&db=1", "redis://db/0?password=***&db=1"),
        (f"Authorization: Bearer {SECRET}", "Authorization: Bearer ***"),
        (f"sasl.oauthbearer.client.secret={SECRET}", "sasl.oauthbearer.client.secret=***"),
        ("expected a token: none was given; password: see the guide", "expected a token: none was given; password: see the guide"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, right: str) -> None:
    assert redacted(text) == right and SECRET not in redacted(text)


def settings_with_secrets() -> GatewaySettings:
    return GatewaySettings(
        application=ROOT,
        kafka=KafkaSettings(options={"ssl.key.password": f"{SECRET}1", "client.id": "a-client"}, password=SecretStr(f"{SECRET}2")),
        registry=RegistrySettings(url=f"http://user:{SECRET}3@127.0.0.1:1"),
        redis=RedisSettings(url=f"redis://:{SECRET}%404@127.0.0.1:1/0"),
        commands=CommandsSettings(key=SecretStr(f"{SECRET}5-and-more")),
        gateway=DoorSettings(tokens={"web": TokenSettings(token=SecretStr(f"{SECRET}6-and-more"), roles=("read",))}),
    )


def test_every_secret_of_the_settings_is_known() -> None:
    known = secrets_of(settings_with_secrets())
    assert {f"{SECRET}{i}" for i in (1, 2, 3)} | {f"{SECRET}@4", f"{SECRET}%404", f"{SECRET}5-and-more", f"{SECRET}6-and-more"} == known
    assert SECRET not in repr(settings_with_secrets().commands) + repr(settings_with_secrets().gateway) + repr(settings_with_secrets().kafka.password)


@pytest.fixture
def root_logger() -> Iterator[None]:
    hooks, handlers, level = (sys.excepthook, threading.excepthook), logging.root.handlers[:], logging.root.level
    yield
    (sys.excepthook, threading.excepthook), logging.root.handlers = hooks, handlers
    logging.root.setLevel(level)
    logging.captureWarnings(False)


@pytest.mark.usefixtures("root_logger")
def test_a_log_holds_no_secret_that_the_process_knows_wherever_it_stands() -> None:
    stream, word = io.StringIO(), 'quoted"and\\é'
    configure_logging("x", "0", stream=stream, secrets={SECRET, word})
    log = logging.getLogger("library")
    log.error("%s", {"nested": [SECRET, word]}, extra={"options": {"sasl.password": "sh", "list": [word]}, "where": Path(SECRET), "count": 4})
    try:
        raise RuntimeError(f"in a message: {SECRET} {word}")
    except RuntimeError:
        log.exception("failed with %s", SECRET)
    thread = threading.Thread(target=lambda: 1 / (SECRET == word), name=SECRET)
    thread.start()
    thread.join()
    sys.excepthook(ValueError, ValueError(SECRET), None)
    written = stream.getvalue()
    lines = [json.loads(line) for line in written.splitlines()]
    assert len(lines) == 4 and lines[0]["count"] == 4 and lines[0]["options"] == {"sasl.password": "***", "list": ["***"]}
    assert all(word not in json.dumps(line, ensure_ascii=False) and word not in str(line) for line in lines) and SECRET not in written


def test_a_secret_is_known_in_json_in_a_representation_and_in_an_address() -> None:
    word = 'quoted"and\\é'
    text = f"{json.dumps({'p': word})} {json.dumps(word, ensure_ascii=False)} {(word,)!r} {quote(word, safe='')}"
    hidden = Redactor({word}).text(text)
    assert hidden == '{"p": "***"} "***" (\'***\',) ***'


@pytest.mark.parametrize("between", ["/", "?", "#", " ", "[", "]", "\t"])
def test_an_address_whose_password_cannot_be_told_from_the_rest_is_refused_and_not_shown(between: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries take what stands before a slash for a port, and say it: "Port could not be cast to integer value as ..."."""
    password = f"{SECRET}{between}{SECRET}"
    given = {"TIDEMILL_REDIS__URL": f"redis://:{password}@127.0.0.1:1/0", "TIDEMILL_REGISTRY__URL": f"http://me:{password}@127.0.0.1:1"}
    for name, value in {"TIDEMILL_APPLICATION": str(ROOT), **given}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        ServiceSettings()  # type: ignore[call-arg, unused-ignore]  # from the environment
    with pytest.raises(SettingsError) as of_a_command:
        read_settings()
    told = [settings_problem(caught.value), str(of_a_command.value), *(check.detail for check in findings(given))]
    assert all("percent-encoded" in text for text in told[:2]) and sum("percent-encoded" in text for text in told) == 4
    assert SECRET not in " ".join(told)


def test_short_secrets_do_not_eat_words() -> None:
    assert Redactor({"", "a", "abc"}).text("a cab, abc") == "a cab, abc"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KAFKA__OPTIONS", f'{{"sasl.password": ["{SECRET}"]}}'), ("KAFKA__DEADLINE_S", f"redis://:{SECRET}@x"),
        ("GATEWAY__TOKENS", f'{{"a": "{SECRET}"}}'),
        ("GATEWAY__TOKENS", f'{{"a": {{"token": "{SECRET}", "roles": []}}}}'), ("COMMANDS__KEY", SECRET), ("COMMANDS", f'{{"key": "{SECRET}"}}'),
        ("REDIS", f'{{"url": "x", "password": "{SECRET}"}}'), ("GATEWAY__HOST", "0.0.0.0"), ("KAFKA__PASSWORDS", SECRET),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named_and_its_secret_is_not(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_APPLICATION", str(ROOT))
    monkeypatch.setenv(f"TIDEMILL_{name}", value)
    with pytest.raises(ValidationError) as caught:
        GatewaySettings()  # type: ignore[call-arg, unused-ignore]  # from the environment
    told = settings_problem(caught.value)
    assert f"TIDEMILL_{name.split('__')[0]}" in told and SECRET not in told and "\n" not in told


def test_a_missing_application_is_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIDEMILL_APPLICATION", raising=False)
    with pytest.raises(ValidationError) as caught:
        ServiceSettings()  # type: ignore[call-arg, unused-ignore]  # from the environment
    assert "TIDEMILL_APPLICATION: expected a value" in settings_problem(caught.value)


def test_servers_that_do_not_answer_are_named_without_their_passwords() -> None:
    redis, registry = f"redis://:{SECRET}@127.0.0.1:1/0", f"http://me:{SECRET}@127.0.0.1:1"
    told = []
    with pytest.raises(OnlineStoreUnavailableError) as away:
        RedisOnlineStore(redis, PLAN).read_features("origin", ["JFK"])
    told.append(str(away.value))
    with pytest.raises(OnlineStoreUnavailableError) as away:
        asyncio.run(RedisFeatureReader(redis, PLAN).read_features("origin", ["JFK"]))
    told.append(str(away.value))
    with pytest.raises(TransientError) as lost:
        ConfluentSchemaRegistry(registry).schema(1)
    told.append(str(lost.value))
    addresses = {"TIDEMILL_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1", "TIDEMILL_REGISTRY__URL": registry, "TIDEMILL_REDIS__URL": redis}
    told += [finding.detail for finding in findings(addresses) if not finding.good]
    assert len(told) == 6 and all("127.0.0.1" in text and SECRET not in text for text in told)


def test_a_run_s_file_with_its_addresses_is_its_owner_s(tmp_path: Path) -> None:
    Instance("a", "live", {"TIDEMILL_REDIS__URL": f"redis://:{SECRET}@x"}, "b").write(tmp_path)
    assert (tmp_path / "instance.json").stat().st_mode & 0o077 == 0


def test_services_that_cannot_connect_say_so_without_passwords(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "TIDEMILL_APPLICATION": str(ROOT / "examples" / "flights"),
        "TIDEMILL_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "TIDEMILL_KAFKA__DEADLINE_S": "0.2",
        "TIDEMILL_KAFKA__PASSWORD": SECRET,
        "TIDEMILL_KAFKA__OPTIONS": json.dumps(
            {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "me", "debug": "security"}
        ),
        "TIDEMILL_REGISTRY__URL": f"http://me:{SECRET}@127.0.0.1:1",
        "TIDEMILL_REDIS__URL": f"redis://:{SECRET}@127.0.0.1:1/0",
        "TIDEMILL_COMMANDS__KEY": f"{SECRET}{SECRET}",
        "TIDEMILL_GATEWAY__TOKENS": json.dumps({"web": {"token": f"{SECRET}{SECRET}", "roles": ["read", "publish", "operate"]}}),
        "TIDEMILL_LOG_LEVEL": "DEBUG",
        "TIDEMILL_RUNNER__STATE_FOLDER": str(tmp_path),
    }
    processes = {}
    for service in ("features", "gateway"):
        with (tmp_path / f"{service}.log").open("wb") as log:
            processes[service] = subprocess.Popen(
                [sys.executable, "-m", f"tidemill.services.{service}"], env=environment, cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
    try:
        answers = _asked(tmp_path / "gateway.log")
        assert processes["features"].wait(patient(60)) == 1, "unreachable: a crash, which the supervisor restarts"
    finally:
        for process in processes.values():
            process.terminate()
            process.wait(patient(20))
    logs = {name: (tmp_path / f"{name}.log").read_text() for name in processes}
    assert "127.0.0.1:1" in logs["features"] and "the online store is away" in logs["gateway"], "the operator learns what the caller does not"
    assert SECRET not in "".join(logs.values()) + answers and "127.0.0.1:1" not in answers


def _asked(log: Path) -> str:
    """Ask a gateway whose servers are all away everything; returns all that it answers."""
    deadline, port = time.monotonic() + patient(60), 0
    while not port and time.monotonic() < deadline:
        port = next((json.loads(line)["port"] for line in log.read_text().splitlines() if '"message": "listening"' in line), 0)
        time.sleep(0.05)
    assert port, log.read_text()
    told = ""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=patient(30)) as client:
        for header in ({}, {"authorization": "Bearer x"}, {"authorization": f"Bearer {SECRET}{SECRET}"}):
            for path in ("/live", "/ready", "/metrics", "/v1/features/origin/JFK", "/openapi.json"):
                told += client.get(path, headers=header).text
    return told

"""`tidemill up` and its services: nothing is left behind, whatever ends it, and what is wrong is said in one message."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from confluent_kafka import Producer

from tests.integration.meters import write_application
from tests.long_forms import shortened
from tests.patience import patient
from tidemill.deploy.embedded.component import free_port
from tidemill.deploy.embedded.infrastructure import VARIABLES
from tidemill.runs.command_channel import command_key
from tidemill.runs.pipeline import TOPOLOGY, stage_processes
from tidemill.runs.watch import record_codec
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.commands.signing import signed_command
from tidemill.shared.service.stage import FUSED

pytestmark = [pytest.mark.timeout(300), pytest.mark.own_interpreters]
ROOT = Path(__file__).parents[2]
DEADLINE_S = patient(120.0)


def wait_for(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s:.0f} s: {what}"
        time.sleep(0.05)


def running(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=patient(5)).status_code == 200
    except httpx.TransportError:
        return False


def module_of(process: psutil.Process) -> str:
    """The Python module a process runs, else nothing."""
    try:
        words = " ".join(process.cmdline()).split()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""
    return words[words.index("-m") + 1] if "-m" in words[:-1] else ""


@contextmanager
def up(folder: Path, app: str, servers: Mapping[str, str]) -> Iterator[tuple["subprocess.Popen[str]", dict[str, str]]]:
    """The command in a process group of its own, as a shell would start it, and the addresses it prints once everything runs."""
    application = write_application(folder / "application", app)
    command = [sys.executable, "-m", "tidemill", "up", str(application), "--folder", str(folder / "up")]
    environment = {name: value for name, value in os.environ.items() if name not in (*VARIABLES, TOPOLOGY)} | dict(servers)
    with (folder / "errors").open("w") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**environment, "COLUMNS": "200"}, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
    assert process.stdout is not None
    try:
        addresses = {}
        for line in process.stdout:
            name, _, value = line.strip().partition("=")
            addresses[name] = value
            if line.split()[:1] == ["gateway"]:
                addresses["gateway"] = line.split()[1]
            if "read from" in line:
                break
        assert set(VARIABLES) <= set(addresses), (folder / "errors").read_text()
        yield process, addresses
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def training_of(parent: psutil.Process, addresses: dict[str, str], folder: Path) -> psutil.Process:
    """Command a training and stop its process as soon as it is there, so that it is still there when the parent ends."""
    plan = load_plan(folder / "application")
    codec = record_codec(ConfluentSchemaRegistry(addresses["TIDEMILL_REGISTRY__URL"]), plan.topics.commands, "Command")
    producer = Producer({"bootstrap.servers": addresses["TIDEMILL_KAFKA__BOOTSTRAP_SERVERS"], "log_level": 2})
    key = command_key(None, folder / "up" / plan.application.app)
    command = signed_command(key, "faulty", "retrain", "a test")
    producer.produce(plan.topics.commands, codec.encode(command), b"faulty")
    assert producer.flush(patient(30)) == 0
    trainings: list[psutil.Process] = []

    def look() -> bool:
        trainings.extend(child for child in parent.children(recursive=True) if module_of(child) == "tidemill.services.retraining.processes.job")
        return bool(trainings)

    wait_for(look, f"a training process; {folder}")
    trainings[0].suspend()
    return trainings[0]


@pytest.mark.lasts(35)
@pytest.mark.parametrize("ending", shortened(["Ctrl-C", "SIGKILL", "Ctrl-C with servers of its own"], 1))
def test_nothing_outlives_the_command(tmp_path: Path, application_name: str, request: pytest.FixtureRequest, ending: str) -> None:
    """The long form adds a SIGKILL, and a Ctrl-C with servers of its own.

    Of a SIGKILL alone there are short forms: the kernel ends services and a training (`test_lifeline`, `test_fork_server`, `test_trainer`). That
    servers of its own outlive neither a SIGKILL nor a Ctrl-C is shown with the servers alone (`test_embedded_lifecycle`).
    """
    own = ending.endswith("own")
    servers = {} if own else request.getfixturevalue("infrastructure").environment
    with up(tmp_path, application_name, servers) as (process, addresses):
        parent = psutil.Process(process.pid)
        training = training_of(parent, addresses, tmp_path)
        family = parent.children(recursive=True)
        modules = {module_of(child) for child in family}
        services = (*stage_processes(FUSED), "gateway", "alerts")
        assert {f"tidemill.services.{name}" for name in services} <= modules and training in family
        # Only a run that looks at it takes changes of its application.
        wait_for((tmp_path / "up" / application_name / "changes" / "open.json").is_file, "the desk of changes")
        wait_for(lambda: answers(f"{addresses['gateway']}/live"), "the gateway at the address that `up` prints")
        assert len(family) >= len(services) + 1 + 6 * own, "services, training, three servers of its own with their watchdogs"
        if ending == "SIGKILL":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGINT)  # what a terminal does
        code = process.wait(patient(60))
        wait_for(lambda: not [child for child in family if running(child)], f"the end of all: {[c for c in family if running(c)]}", 30)
        assert code == (-signal.SIGKILL if ending == "SIGKILL" else 0)
    assert "Traceback" not in (tmp_path / "errors").read_text()


def service(stage: str, application: Path, folder: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "TIDEMILL_APPLICATION": str(application), "TIDEMILL_RUNNER__STATE_FOLDER": str(folder / "state"), **settings}
    return subprocess.run(
        [sys.executable, "-m", f"tidemill.services.{stage}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=patient(120),
        check=False,
    )


def test_an_unreachable_broker_ends_a_service_with_its_address_and_what_to_do(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    application = write_application(tmp_path / "application", "meters")
    settings = {"TIDEMILL_KAFKA__BOOTSTRAP_SERVERS": address, "TIDEMILL_KAFKA__DEADLINE_S": "2"}
    ended = service("ingestion", application, tmp_path, **settings)
    assert ended.returncode == 1
    assert f"Kafka at {address} does not answer" in ended.stdout + ended.stderr
    assert "TIDEMILL_KAFKA__BOOTSTRAP_SERVERS" in ended.stdout + ended.stderr


def test_a_broken_application_ends_a_service_and_the_command_with_file_and_line(tmp_path: Path) -> None:
    application = write_application(tmp_path / "application", "meters")
    file = application / "app.yaml"
    file.write_text(file.read_text().replace("max_delay: 2h", "max_delay: soon"))
    line = next(number for number, text in enumerate(file.read_text().splitlines(), 1) if "soon" in text)
    ended = service("ingestion", application, tmp_path)
    assert ended.returncode == 2
    assert f"{file}:{line}" in ended.stderr and "soon" in ended.stderr and "Traceback" not in ended.stderr
    command = [sys.executable, "-m", "tidemill", "up", str(application), "--folder", str(tmp_path / "up")]
    told = subprocess.run(command, cwd=ROOT, env={**os.environ, "COLUMNS": "400"}, capture_output=True, text=True, timeout=patient(60), check=False)
    assert told.returncode == 2
    assert f"{file}:{line}" in told.stderr.replace("\n", "") and "Traceback" not in told.stderr
    assert not (tmp_path / "up").exists(), "before anything was started"

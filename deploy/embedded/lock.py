"""Maintainers' command: resolve the servers' dependencies afresh and write `artifacts.lock`.

``python -m tidemill.deploy.embedded.lock``, then read the difference before committing it.
"""

from pathlib import Path

import jgo
from jgo.maven import MavenContext

from tidemill.deploy.embedded.artifacts import LOCK_FILE, sha256_of

KAFKA = "org.apache.kafka:kafka_2.13:4.1.2+org.slf4j:slf4j-simple:1.7.36"
REGISTRY = ("io.apicurio", "apicurio-registry-app", "3.3.3")
HEADER = """\
# The Java archives of the embedded servers: use, group:artifact[:classifier:packaging], version, SHA-256.
# Written by `python -m tidemill.deploy.embedded.lock`; every file is checked against it before it is used.
"""


def resolve() -> list[str]:
    """Resolve both servers and give the lock file's lines, sorted."""
    lines = [f"kafka {jar.groupId}:{jar.artifactId} {jar.version} {sha256_of(Path(jar.resolve()))}" for jar in jgo.resolve(KAFKA)]
    group, name, version = REGISTRY
    archive = MavenContext().project(group, name).at_version(version).artifact(classifier="all", packaging="tar.gz")
    lines.append(f"registry {group}:{name}:all:tar.gz {version} {sha256_of(Path(archive.resolve()))}")
    return sorted(lines)


if __name__ == "__main__":
    LOCK_FILE.write_text(HEADER + "\n".join(resolve()) + "\n", encoding="utf-8")

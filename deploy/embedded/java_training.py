"""Make the Java caches of the embedded servers, once: ``python -m tidemill.deploy.embedded.java_training``."""

import tempfile
from pathlib import Path

from tidemill.deploy.embedded.component import ComponentError
from tidemill.deploy.embedded.java_cache import one_writer
from tidemill.deploy.embedded.programs import java_caches, java_programs
from tidemill.deploy.embedded.servers import prepare_servers

# Java writes the cache while it ends: a few seconds of both processors, more where others want them too.
_WRITING_S = 300.0


def make_java_caches() -> None:
    """Start the servers that have no cache yet in a folder of their own, and stop them as soon as they answer; at their end Java writes it.

    Raises
    ------
    ServerArchiveError
        Their programs could not be fetched or are not the locked ones.
    ComponentError
        One of them did not come up, or left no cache; with the end of its log.
    """
    programs = java_programs()
    caches = java_caches(programs)
    with one_writer(next(iter(caches.values())).path.parent):
        missing = {name: cache for name, cache in caches.items() if not cache.path.exists()}
        if not missing:
            return
        with tempfile.TemporaryDirectory(prefix="tidemill-java-") as folder:
            servers = prepare_servers(Path(folder), programs, {name: cache.writing for name, cache in caches.items()})
            trained = [servers[name] for name in missing]
            try:
                for server in trained:
                    server.grace_s = _WRITING_S
                    server.launch()
                for server in trained:
                    server.wait_until_ready()
            finally:
                for server in trained:
                    server.begin_stop()
                for server in trained:
                    server.stop()
            for server in trained:
                try:
                    missing[server.name].accept()
                except FileNotFoundError as error:
                    raise ComponentError(server.name, f"expected Java to write its cache {error.filename}, found none", server.log) from error


if __name__ == "__main__":
    make_java_caches()

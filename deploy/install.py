"""Installs the locked packages, and Tidemill itself, into the environment of the Python that runs this: ``python -m tidemill.deploy.install``.

uv does it, which is itself an entry of the lock and comes by pip. Where uv cannot be had or does not get through, pip does, with a note. Either way
every file is held against its hash in the one lock. Needs nothing but the standard library.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
LOCK = _ROOT / "requirements.lock"
_PIP = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
_UV = [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable]
_ITSELF = ["--no-deps", "--no-build-isolation", "-e", str(_ROOT)]
# What pip was told about the network, and uv's word for it: a machine that is set up for pip needs no second set-up.
_UV_WORDS = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
}
_EVERY = 20


def entries(lock: str) -> dict[str, str]:
    """Return each entry of a lock, hashes included, by the package's name."""
    requirements = re.findall(r"^([A-Za-z0-9._-]+)(.*(?:\n[ \t]+.*)*)", lock, re.MULTILINE)
    return {name: name + rest for name, rest in requirements}


def uv_environment(pip_settings: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for uv: what `pip config list` printed, in uv's words, below what the environment says to uv itself.

    >>> uv_environment("global.index-url='https://mirror.example.org/simple'", {})
    {'UV_DEFAULT_INDEX': 'https://mirror.example.org/simple'}
    """
    settings: dict[str, str] = {}
    for line in pip_settings.splitlines():
        name, _, value = line.partition("=")
        word = _UV_WORDS.get(name.rpartition(".")[2])
        if word is not None and value:
            # pip allows several values in one setting, a line or a space between them; uv wants a space, of links a comma.
            values = value.strip("'\"").replace("\\n", " ").split()
            settings[word] = ("," if word == "UV_FIND_LINKS" else " ").join(values)
    return {**settings, **environment}


def install() -> None:
    """Install everything.

    Raises
    ------
    subprocess.CalledProcessError
        pip failed; what it said is on the terminal.
    """
    started, count = time.monotonic(), len(entries(LOCK.read_text(encoding="utf-8")))
    print(f"Installing {count} locked packages into {sys.prefix} ...", flush=True)
    try:
        _with_uv()
        way = "uv"
    except (subprocess.CalledProcessError, OSError) as problem:
        print(f"uv cannot be used here ({_short(problem)}): pip goes on, which takes longer.", flush=True)
        _with_pip(count)
        way = "pip"
    print(f"Installed with {way} in {time.monotonic() - started:.0f} s.", flush=True)


def _with_uv() -> None:
    """Get uv by pip, then everything by uv, which shows its progress. Imports write byte code, for a third of the files."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(entries(LOCK.read_text(encoding="utf-8"))["uv"] + "\n")
        file.flush()
        subprocess.run([*_PIP, "--quiet", "--require-hashes", "-r", file.name], check=True, capture_output=True, text=True)
    settings = subprocess.run([sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True).stdout
    environment = uv_environment(settings, os.environ)
    subprocess.run([*_UV, "--require-hashes", "-r", str(LOCK)], check=True, env=environment)
    subprocess.run([*_UV, "--quiet", *_ITSELF], check=True, env=environment)


def _with_pip(count: int) -> None:
    """Install by pip alone, and say how far it is."""
    command = [*_PIP, "--progress-bar", "off", "--no-compile", "--require-hashes", "-r", str(LOCK)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        _show(process.stdout or (), count)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    subprocess.run([*_PIP, "--quiet", *_ITSELF], check=True)


def _show(lines: Iterable[str], count: int) -> None:
    """Show pip's output as one line that changes; where there is no terminal, a line for every twentieth package."""
    done, terminal = 0, sys.stdout.isatty()
    for line in lines:
        if line.startswith("Collecting "):
            done += 1
            if terminal:
                print(f"\r  {done} of {count}: {line.split()[1][:60]:<60}", end="", flush=True)
            elif done % _EVERY == 0:
                print(f"  {done} of {count}", flush=True)
        elif line.startswith("Installing collected packages"):
            print(f"{chr(13) if terminal else ''}  All are here; unpacking them {'':<45}", flush=True)


def _short(problem: Exception) -> str:
    if isinstance(problem, subprocess.CalledProcessError):
        said = str(problem.stderr or "").strip().splitlines()
        what = " ".join(str(word) for word in problem.cmd[1:4])
        return f"`python {what} ...` ended with {problem.returncode}{': ' + said[-1][:200] if said else ''}"
    return str(problem)


if __name__ == "__main__":
    try:
        install()
    except subprocess.CalledProcessError as problem:
        sys.exit(f"The installation failed: {_short(problem)}; its message is above.")

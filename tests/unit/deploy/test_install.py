"""The installation: one lock for uv and for pip, pip's network settings for uv, and a way on when there is no uv."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tidemill.deploy import install
from tidemill.deploy.install import entries, uv_environment


def test_a_lock_is_cut_into_its_entries() -> None:
    lock = "# made by\na==1 \\\n    --hash=sha256:00 \\\n    --hash=sha256:01\nb[x]==2 ; sys_platform == 'linux' \\\n    --hash=sha256:11\n"
    assert entries(lock) == {
        "a": "a==1 \\\n    --hash=sha256:00 \\\n    --hash=sha256:01",
        "b": "b[x]==2 ; sys_platform == 'linux' \\\n    --hash=sha256:11",
    }
    real = entries(install.LOCK.read_text())
    assert real["uv"].startswith("uv==") and all("--hash=sha256:" in entry for entry in real.values())


def test_uv_is_told_what_pip_was_told_and_keeps_its_own() -> None:
    said = "\n".join([
        "global.index-url='https://mirror.example.org/simple'",
        "install.extra-index-url='https://a.example.org/simple\\nhttps://b.example.org/simple'",
        ":env:.find-links='/wheels /more'",
        "global.cert='/etc/ca.pem'",
        ":env:.default-timeout='180'",
        ":env:.disable-pip-version-check='1'",
    ])  # fmt: skip
    assert uv_environment(said, {"UV_HTTP_TIMEOUT": "9", "HOME": "/home"}) == {
        "UV_DEFAULT_INDEX": "https://mirror.example.org/simple",
        "UV_INDEX": "https://a.example.org/simple https://b.example.org/simple",
        "UV_FIND_LINKS": "/wheels,/more",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "UV_HTTP_TIMEOUT": "9",
        "HOME": "/home",
    }


def test_what_pip_prints_is_what_is_read(tmp_path: Path) -> None:
    """pip's own words for a list of settings, not ours."""
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://one.example.org/simple\nextra-index-url =\n    https://a.example.org\n    https://b.example.org\n"
    )
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True, env={"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")})
    environment = uv_environment(listed.stdout, {})
    assert environment["UV_DEFAULT_INDEX"] == "https://one.example.org/simple"
    assert environment["UV_INDEX"] == "https://a.example.org https://b.example.org"


def test_where_uv_does_not_get_through_pip_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real pip that finds no index has nothing to install from: uv fails, and then so does pip, each named."""
    (tmp_path / "lock").write_text("uv==0.0.1 \\\n    --hash=sha256:00\n")
    monkeypatch.setattr(install, "LOCK", tmp_path / "lock")
    commands: list[Sequence[str]] = []
    run = subprocess.run

    def recorded(command: Sequence[str], **options: Any) -> "subprocess.CompletedProcess[Any]":
        commands.append(command)
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", recorded)
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(subprocess.CalledProcessError) as ended:
        install.install()
    assert "uv cannot be used here" in capsys.readouterr().out
    assert commands and "--require-hashes" in commands[0] and "--require-hashes" in ended.value.cmd


def test_the_way_of_pip_says_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"Collecting p{number}==1 (from -r lock)\n" for number in range(40)]
    install._show([*lines, "Installing collected packages: p0\n"], 40)
    assert capsys.readouterr().out.split("\n")[:2] == ["  20 of 40", "  40 of 40"]

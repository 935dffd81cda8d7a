"""Where schemas live: a port, the Confluent-compatible adapter and the one for tests."""

import json
import time
from functools import lru_cache
from typing import Protocol

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from tidemill.shared.avro.unknown_ids import UnknownIds
from tidemill.shared.log.errors import ServerAwayError
from tidemill.shared.observability.redaction import redacted

_LEVEL = "BACKWARD_TRANSITIVE"


class SchemaNotFound(KeyError):
    """The registry has no schema of this id."""


class IncompatibleSchema(ValueError):
    """The registry refused a schema because readers of the new one could not read what is there."""


class SchemaRegistry(Protocol):
    """Ids for schemas and schemas for ids; both never change once given."""

    def register(self, subject: str, schema: str) -> int:
        """Register an Avro schema (JSON) under a subject and return its id; raises IncompatibleSchema or ServerAwayError."""
        ...

    def schema(self, schema_id: int) -> str:
        """Return the Avro schema (JSON) of an id; raises SchemaNotFound or ServerAwayError."""
        ...


@lru_cache(maxsize=256)
def _canonical(schema: str) -> str:
    return json.dumps(json.loads(schema), separators=(",", ":"))


class ConfluentSchemaRegistry:
    """Any registry that speaks Confluent's protocol; keeps what it has seen, and for 30 s what it has not (`UnknownIds`).

    Parameters
    ----------
    url
        Base address up to and including the API's path, e.g. ``http://127.0.0.1:8080/apis/ccompat/v7``.
    """

    def __init__(self, url: str) -> None:
        self._url = redacted(url)
        # To load the authorities' certificates takes 25 ms of CPU in every process, and plain addresses (a list has commas) have no use for them.
        plain = {"ssl.ca.location": False} if all(one.strip().startswith("http://") for one in url.split(",")) else {}
        self._client = SchemaRegistryClient({"url": url, "timeout": 10.0, **plain})
        self._ids: dict[tuple[str, str], int] = {}
        self._schemas: dict[int, str] = {}
        self._levels: set[str] = set()
        self._unknown = UnknownIds()

    def register(self, subject: str, schema: str) -> int:
        """Register a schema under a subject whose compatibility is BACKWARD_TRANSITIVE."""
        key = (subject, _canonical(schema))
        if key not in self._ids:
            try:
                known = self._client.register_schema(subject, Schema(key[1], "AVRO"))
                if subject not in self._levels:
                    self._require_transitive(subject)
                    self._levels.add(subject)
            except SchemaRegistryError as error:
                if error.http_status_code in (409, 422):
                    raise IncompatibleSchema(f"{self._url}: subject {subject} refuses the schema: {error.error_message}") from error
                raise self._transient(error) from error
            except Exception as error:  # httpx errors of every kind mean: not reachable
                raise self._transient(error) from error
            self._ids[key] = known
            self._unknown.learn(known)
        return self._ids[key]

    def schema(self, schema_id: int) -> str:
        """Fetch a schema by id."""
        if schema_id not in self._schemas:
            if not self._unknown.worth_asking(schema_id, time.monotonic()):
                raise SchemaNotFound(f"{self._url}: no schema with id {schema_id} a moment ago, or too many unknown ids to ask for each")
            try:
                answer = self._client.get_schema(schema_id)
            except SchemaRegistryError as error:
                if error.http_status_code == 404:
                    self._unknown.remember(schema_id, time.monotonic())
                    raise SchemaNotFound(f"{self._url}: no schema with id {schema_id}") from error
                raise self._transient(error) from error
            except Exception as error:  # httpx errors of every kind mean: not reachable
                raise self._transient(error) from error
            self._schemas[schema_id] = str(answer.schema_str)
            self._unknown.learn(schema_id)
        return self._schemas[schema_id]

    def _require_transitive(self, subject: str) -> None:
        """Set the subject's compatibility; when another process sets it at the same moment, see that it did."""
        try:
            self._client.set_compatibility(subject, _LEVEL)
        except SchemaRegistryError as error:
            if error.http_status_code != 409 or self._client.get_compatibility(subject) != _LEVEL:
                raise

    def _transient(self, error: Exception) -> ServerAwayError:
        return ServerAwayError(redacted(f"schema registry at {self._url} did not answer as expected: {error}; check TIDEMILL_REGISTRY__URL"))


class MemorySchemaRegistry:
    """A registry in this process, for tests and audits; ids count from 1."""

    def __init__(self) -> None:
        self._schemas: dict[int, str] = {}
        self._ids: dict[str, int] = {}

    def register(self, subject: str, schema: str) -> int:
        """Give the same id for the same schema, whatever the subject."""
        text = _canonical(schema)
        if text not in self._ids:
            self._ids[text] = len(self._ids) + 1
            self._schemas[self._ids[text]] = text
        return self._ids[text]

    def schema(self, schema_id: int) -> str:
        """Return the schema of an id."""
        if schema_id not in self._schemas:
            raise SchemaNotFound(f"no schema with id {schema_id}")
        return self._schemas[schema_id]

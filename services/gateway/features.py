"""Online features over HTTP: one entity or many, with status and age."""

import asyncio
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, HTTPException, Path, Response
from prometheus_client import Counter
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr
from pydantic.config import JsonDict

from tidemill.services.gateway.entity_keys import EntityKeys, Key
from tidemill.services.gateway.path_names import path_name
from tidemill.shared.avro.key_text import KeyTextError
from tidemill.shared.instant import utc
from tidemill.shared.online_store.layout import EntityLayout, UnknownEntityError
from tidemill.shared.online_store.rows import FeatureRows
from tidemill.shared.online_store.store import OnlineStore, OnlineStoreUnavailableError

log = logging.getLogger(__name__)
MOST_KEYS = 1_000
_ROW: JsonDict = {
    "key": "JFK-LAX",
    "status": "found",
    "values": {"route_delay__mean_24h": 12.5, "route_late__mean_all": None},
    "journal_time": "2013-03-01T11:59:58.250Z",
    "journal_offset": 81_234,
    "age_ms": 1_250,
}
_ENTITY: JsonDict = {"entity": "route", "layout": "6f1d0c2b9e8a7f54", "rebuilding": False}


class Problem(BaseModel):
    """What was wrong with the request, and what to do."""

    detail: str


class FeatureRow(BaseModel):
    """The features of one entity."""

    key: str = Field(description="The entity, as its column says it.")
    status: Literal["found", "missing", "expired"] = Field(
        description="`found`; `missing`: never seen, or expired so long ago that it was forgotten; `expired`: its time to live has passed."
    )
    values: dict[str, float | None] = Field(description="Every feature by name; null where it is missing, and everywhere unless `found`.")
    journal_time: datetime | None = Field(
        description="The values are as of this time: windows shrink as time passes, also without events. Null when `missing`."
    )
    journal_offset: int | None = Field(description="The values hold every record of the journal below this offset. Null when `missing`.")
    age_ms: int | None = Field(description="How long ago `journal_time` is, in milliseconds. Null when `missing`.")


class EntityAnswer(FeatureRow):
    """The features of one entity, and the layout they were read in."""

    model_config = ConfigDict(json_schema_extra={"example": {**_ENTITY, **_ROW}})

    entity: str
    layout: str = Field(description="Digest of the features, their order and definitions: it changes when a view does.")
    rebuilding: bool = Field(description="The store is being filled from state (after a flush, for a new layout): `missing` may mean `not yet`.")


class EntitiesAnswer(BaseModel):
    """The features of several entities, in the order of the keys."""

    model_config = ConfigDict(json_schema_extra={"example": {**_ENTITY, "rows": [_ROW]}})

    entity: str
    layout: str
    rebuilding: bool
    rows: list[FeatureRow]


class EntitiesQuestion(BaseModel):
    """Which entities to read."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"keys": ["JFK-LAX", "EWR-SFO"]}})

    keys: list[StrictStr | StrictBool | StrictInt | StrictFloat] = Field(
        max_length=MOST_KEYS, description=f"At most {MOST_KEYS} keys, as text or as the entity's column holds them; a key may come twice."
    )


class FeatureReader(Protocol):
    """Reads the online store without holding up the event loop."""

    @property
    def layouts(self) -> Mapping[str, EntityLayout]:
        """The layout of every entity."""
        ...

    async def read_features(self, entity: str, keys: Sequence[str]) -> FeatureRows:
        """Return one row per key; raises as `OnlineStore.read_features` does."""
        ...

    async def ping(self) -> bool:
        """Tell whether the store answers."""
        ...


class ThreadedReader:
    """Reads a store that blocks, each call in a thread."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store

    @property
    def layouts(self) -> Mapping[str, EntityLayout]:
        """The layout of every entity."""
        return self._store.layouts

    async def read_features(self, entity: str, keys: Sequence[str]) -> FeatureRows:
        """Return one row per key."""
        return await asyncio.to_thread(self._store.read_features, entity, keys)

    async def ping(self) -> bool:
        """Tell whether the store answers."""
        return await asyncio.to_thread(self._store.ping)


def features_router(reader: FeatureReader, keys: EntityKeys, counted: Counter) -> APIRouter:
    """Return ``GET /v1/features/{entity}/{key}`` and ``POST /v1/features/{entity}``."""
    router = APIRouter(tags=["features"])
    known = ", ".join(reader.layouts) or "none: the application has no views"
    entity_path = path_name(f"Kind of entity; this application has {known}.", reader.layouts)
    problems: dict[int | str, dict[str, Any]] = {
        404: {"model": Problem, "description": "The application has no views of such an entity."},
        422: {"description": "The keys are not what was expected."},
        503: {"model": Problem, "description": "The online store does not answer; try again."},
    }

    async def answer(entity: str, asked: Sequence[Key], body: Callable[[FeatureRows], str]) -> Response:
        try:
            rows = await reader.read_features(entity, [keys.written(entity, key) for key in asked])
        except UnknownEntityError as error:
            raise _refused(counted, 404, str(error)) from error
        except (UnicodeEncodeError, KeyTextError) as error:
            raise _refused(counted, 422, str(error)) from error
        except OnlineStoreUnavailableError as error:
            # Where the store is and what it says is the operator's business, and no caller's.
            log.warning("the online store is away", extra={"error": str(error)})
            raise _refused(counted, 503, "the online store does not answer; try again") from error
        counted.labels("features", "200").inc()
        return Response(body(rows), media_type="application/json")

    # The answers are written as they are: checking them against their own models would double the time of a read.
    @router.get("/v1/features/{entity}/{key:path}", responses={200: {"model": EntityAnswer}, **problems}, summary="Features of one entity")
    async def one(entity: Annotated[str, entity_path], key: Annotated[str, Path(description="The entity; percent-encoded.")]) -> Response:
        """Return the features of the entity after its last event or request.

        An unknown key is no error: it is answered with status `missing`, so that a caller handles new entities like others.
        """
        return await answer(entity, [key], entity_answer)

    @router.post("/v1/features/{entity}", responses={200: {"model": EntitiesAnswer}, **problems}, summary="Features of several entities")
    async def several(entity: Annotated[str, entity_path], question: EntitiesQuestion) -> Response:
        """Return the features of several entities in one round trip, in the order of the keys."""
        return await answer(entity, question.keys, _entities_answer)

    return router


def entity_answer(rows: FeatureRows) -> str:
    """Return the answer about the first row as JSON: an `EntityAnswer`."""
    return json.dumps({**_heading(rows), **_row(rows, 0)}, allow_nan=False)


def _entities_answer(rows: FeatureRows) -> str:
    return json.dumps({**_heading(rows), "rows": [_row(rows, i) for i in range(len(rows))]}, allow_nan=False)


def _refused(counted: Counter, status: int, detail: str) -> HTTPException:
    counted.labels("features", str(status)).inc()
    return HTTPException(status, detail)


def _heading(rows: FeatureRows) -> dict[str, object]:
    return {"entity": rows.entity, "layout": rows.layout, "rebuilding": rows.rebuilding}


def _row(rows: FeatureRows, i: int) -> dict[str, object]:
    known = rows.status[i] != "missing"
    values = [value if math.isfinite(value) else None for value in rows.values[i].tolist()]
    return {
        "key": rows.keys[i],
        "status": rows.status[i],
        "values": dict(zip(rows.names, values, strict=True)),
        "journal_time": _iso(int(rows.journal_time_ms[i])) if known else None,
        "journal_offset": int(rows.journal_offset[i]) if known else None,
        "age_ms": int(rows.age_ms[i]) if known else None,
    }


def _iso(time_ms: int) -> str:
    return utc(time_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")

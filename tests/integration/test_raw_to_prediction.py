"""Raw events to predictions through three services on real Kafka and a real registry, killed on the way."""

import signal
from pathlib import Path

import pytest

from tests.integration.flights_services import FlightsTopics, application, service, until
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.shared.online_store.redis_store import RedisOnlineStore

__all__ = ["application"]
EVENTS = 3_000


@pytest.mark.lasts(20)
@pytest.mark.timeout(300)
def test_every_request_has_one_vector_and_one_prediction_although_every_service_is_killed(
    application: Path, infrastructure: Infrastructure, tmp_path: Path
) -> None:
    flights = FlightsTopics(application, infrastructure)
    predictions_topic = flights.plan.topics.predictions
    with (
        service("ingestion", application, infrastructure, tmp_path) as ingestion,
        service("features", application, infrastructure, tmp_path) as features,
        service("scoring", application, infrastructure, tmp_path) as scoring,
    ):
        starts = {"ingestion": ingestion, "features": features, "scoring": scoring}
        running = {name: start() for name, start in starts.items()}
        third = EVENTS // len(starts)
        for turn, (name, start) in enumerate(starts.items()):
            flights.publish(turn * third, (turn + 1) * third)
            until(lambda enough=turn * third: len(flights.values(predictions_topic)) > enough, f"predictions of slice {turn}", tmp_path)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            running[name].send_signal(signal.SIGKILL)
            running[name].wait()
            running[name] = start()
        until(lambda: len(flights.values(predictions_topic)) >= EVENTS, "all predictions", tmp_path)
        online = RedisOnlineStore(infrastructure.redis_url, flights.plan)
        newest = online.layouts["origin"].features.index("origin_traffic__count_1h")
        until(lambda: online.read_features("origin", ["EWR"]).values[0, newest] == EVENTS, "the last departure in the online store", tmp_path)
        assert online.read_features("origin", ["JFK"]).status == ("missing",)
        # Nothing has landed, so of the aircraft that were asked about nothing is known.
        assert set(online.read_features("aircraft", [f"N{i}" for i in range(50)]).status) == {"missing"}
        online.close()

    predictions, _ = flights.answers(EVENTS)
    assert set(predictions.column("reason").to_pylist()) == {"no_model"}
    assert not flights.values(flights.plan.topics.rejected) and not flights.values(flights.plan.topics.duplicates)
    flights.reader.close()

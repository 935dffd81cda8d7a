"""Producers and consumers in the catalogue are exactly what the code declares, and nothing writes or reads what it has not declared."""

import ast
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import tidemill.audit
import tidemill.backtest
import tidemill.demo
import tidemill.offline
import tidemill.replay
import tidemill.runs
import tidemill.services.alerts
import tidemill.services.cli
import tidemill.services.gateway
import tidemill.shared.dead_letters
from tidemill.services.alerts.topic_use import topic_use as alerts
from tidemill.services.archive.task import task_inputs as archive
from tidemill.services.cli.topic_use import topic_use as cli
from tidemill.services.control.task import task_inputs as control
from tidemill.services.drift.task import task_inputs as drift
from tidemill.services.explanations.task import task_inputs as explanations
from tidemill.services.features.task import task_inputs as features
from tidemill.services.gateway.topic_use import topic_use as gateway
from tidemill.services.ingestion.task import task_inputs as ingestion
from tidemill.services.outcomes.task import task_inputs as outcomes
from tidemill.services.retraining.task import task_inputs as retraining
from tidemill.services.scoring.task import task_inputs as scoring
from tidemill.shared.application.model import Explain
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.application.topics import STAGES, Topics, TopicUse
from tidemill.shared.log.topics import CATALOGUE
from tidemill.shared.runner.task import TaskInputs

ROOT = Path(__file__).parents[2]
DECLARED: dict[str, Callable[[Plan], TaskInputs]] = {
    "ingestion": ingestion, "features": features, "scoring": scoring, "outcomes": outcomes, "explanations": explanations, "drift": drift,
    "control": control, "retraining": retraining, "archive": archive,
}  # fmt: skip
BESIDE: dict[str, Callable[[Topics], TopicUse]] = {"alerts": alerts, "gateway": gateway, "cli": cli}
FOLDERS = {
    "alerts": [tidemill.services.alerts],
    "gateway": [tidemill.services.gateway, tidemill.shared.dead_letters],
    "cli": [
        tidemill.services.cli, tidemill.runs, tidemill.replay, tidemill.audit, tidemill.offline, tidemill.demo, tidemill.backtest,
        tidemill.shared.dead_letters,
    ],
}  # fmt: skip
Uses = dict[str, tuple[set[str], set[str]]]


@pytest.fixture(scope="module")
def plan() -> Plan:
    """An application with everything that makes a stage read more: a reference stream, a stream that can be paused, a model that is explained."""
    flights = load_plan(ROOT / "examples" / "flights")
    models = {name: model.model_copy(update={"explain": Explain()}) for name, model in flights.application.models.items()}
    streams = {**flights.streams, "departures": replace(flights.streams["departures"], pauses_on_flood=True)}
    return replace(flights, streams=streams, application=flights.application.model_copy(update={"models": models}))


def declared(plan: Plan) -> Uses:
    """Producers and consumers by topic; what the runner itself writes and reads for every stage is added."""
    topics, raw = plan.topics, set(plan.topics.raw)
    roles: Uses = defaultdict(lambda: (set(), set()))
    for stage, inputs in DECLARED.items():
        own = inputs(plan)
        for topic in (*own.outputs, topics.rejected, topics.progress(stage), topics.checkpoint(stage)):
            roles[topic][0].add(stage)
        for topic in (*own.partitioned, *own.broadcast, *own.restores_from_outputs, topics.progress(stage), topics.checkpoint(stage)):
            if topic not in raw:
                roles[topic][1].add(stage)
    for party, use in BESIDE.items():
        for topic in use(topics).writes:
            roles[topic][0].add(party)
        for topic in use(topics).reads:
            roles[topic][1].add(party)
    return dict(roles)


def catalogued(app: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Topic, its pattern and its entry; one topic for each stage where the pattern has one."""
    document = YAML(typ="safe").load(CATALOGUE)
    for pattern, entry in document["topics"].items():
        for stage in STAGES if "{stage}" in pattern else [""]:
            yield pattern.format(app=app, stage=stage), stage, entry


def test_producers_and_consumers_are_those_that_the_code_declares(plan: Plan) -> None:
    roles, seen = declared(plan), set()
    readers_of_progress: set[str] = set()
    for topic, stage, entry in catalogued(plan.application.app):
        producers, consumers = roles.get(topic, (set(), set()))
        written = {stage if party == "{stage}" else party for party in entry["producers"]}
        read = {stage if party == "{stage}" else party for party in entry["consumers"]}
        assert written - {"users"} == producers, topic
        if entry["schemas"] == ["progress"]:
            # The catalogue has one entry for all stages: who reads any of them stands there.
            readers_of_progress |= consumers - {stage}
            assert stage in consumers, topic
        else:
            assert read - {"users"} == consumers, topic
        assert ("users" in written | read) == entry["public"], topic
        assert entry["owner"] in entry["producers"] or (entry["owner"] in read and "users" in written), topic
        seen.add(topic)
    assert readers_of_progress == {party for _, _, entry in catalogued("x") if entry["schemas"] == ["progress"] for party in entry["consumers"]} - {
        "{stage}"
    }
    assert set(roles) == seen, "every topic that is used is in the catalogue"
    assert set(DECLARED) == set(STAGES)


@pytest.mark.parametrize("party", sorted(BESIDE))
def test_what_is_no_stage_names_no_topic_that_it_has_not_declared(party: str) -> None:
    """Of stages the runner sees to it; these have clients of their own, so their source is read."""
    names = {name for name, member in vars(Topics).items() if isinstance(member, property)}
    topics = Topics("app", ())
    use = BESIDE[party](topics)
    used = {name for package in FOLDERS[party] for name in _named(Path(str(package.__file__)).parent, names)}
    fixed = used - {"progress", "checkpoint"}
    assert {getattr(topics, name) for name in fixed} == {
        topic for topic in use.reads | use.writes if not topic.endswith(("-progress", "-checkpoint"))
    }
    assert ("progress" in used) == any(topic.endswith("-progress") for topic in use.reads)
    assert ("checkpoint" in used) == any(topic.endswith("-checkpoint") for topic in use.reads)


def _named(folder: Path, names: set[str]) -> set[str]:
    named = set()
    for file in folder.rglob("*.py"):
        if file.name == "topic_use.py":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
                owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
                if owner.lstrip("_") == "topics" and (node.attr in names or node.attr in ("progress", "checkpoint")):
                    named.add(node.attr)
            if isinstance(node, ast.Name) and node.id == "checkpoint_topic":
                named.add("checkpoint")
    return named

"""A watch over a run that serves: what cannot be read for a while is said once, and never ends the run."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.runs.settings import read_settings
from tidemill.runs.watch import RunState, Watch
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.log.errors import TransientError


class RunWatch:
    """Polls a watch; a broker or registry that is away is the services' business, which say so themselves."""

    def __init__(self, watch: Watch, say: Callable[[str], None]) -> None:
        self._watch = watch
        self._say = say
        self._away = False

    def poll(self) -> RunState:
        """Return what is seen."""
        try:
            self._watch.read(0.0)
        except (RuntimeError, TransientError) as problem:
            if not self._away:
                self._say(f"the run's topics cannot be read, so that faults may not be shown here: {problem}")
            self._away = True
        else:
            self._away = False
        return self._watch.seen


@contextmanager
def watching(plan: Plan, infrastructure: Infrastructure, say: Callable[[str], None]) -> Iterator[RunWatch]:
    """Follow a run's topics a few times a second, from now on for dead letters."""
    kafka = read_settings().kafka_at(infrastructure.bootstrap_servers)
    with closing(Watch(plan, kafka, ConfluentSchemaRegistry(infrastructure.registry_url), hurry=False)) as watch:
        yield RunWatch(watch, say)

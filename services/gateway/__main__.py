"""Run the gateway: ``python -m tidemill.services.gateway``."""

import logging
import os
import socket
import sys

from pydantic import ValidationError
from pydantic_settings import SettingsError

import tidemill.shared.without_pandas  # noqa: F401 - before all that makes arrays
from tidemill.services.gateway.app import Door, build_app
from tidemill.services.gateway.command_desk import SigningDesk
from tidemill.services.gateway.drift_desk import KafkaDriftDesk
from tidemill.services.gateway.explanation_desk import KafkaExplanationDesk
from tidemill.services.gateway.letter_desk import KafkaLetterDesk
from tidemill.services.gateway.publisher import KafkaPublisher
from tidemill.services.gateway.server import server
from tidemill.services.gateway.settings import GatewaySettings
from tidemill.services.gateway.tokens import TokenBook, TokensError, read_tokens
from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.lake.tables import Lake
from tidemill.shared.observability.logging import configure_logging
from tidemill.shared.observability.redaction import redacted, secrets_of
from tidemill.shared.observability.settings_problem import settings_problem
from tidemill.shared.online_store.redis_reader import RedisFeatureReader
from tidemill.shared.text_guard import strange_bytes

MISCONFIGURED = 2
log = logging.getLogger(__name__)


def main() -> int:
    """Serve until a signal; 2 when settings, tokens or application are wrong."""
    if (strange := strange_bytes((), os.environ)) is not None:
        return _misconfigured(strange)
    try:
        settings = GatewaySettings()  # type: ignore[call-arg, unused-ignore]  # from the environment
        tokens = read_tokens(settings.gateway)
        key = settings.commands.secret()
        plan = load_plan(settings.application)
    except ValidationError as problem:
        return _misconfigured(settings_problem(problem))
    except SettingsError as problem:
        return _misconfigured(f"TIDEMILL_*: expected JSON in the variable of a group of settings, came something else ({problem})")
    except (TokensError, ValueError, OSError, ApplicationError) as problem:
        return _misconfigured(redacted(str(problem)))
    held = {one.token.get_secret_value() for one in tokens.values()}
    configure_logging("gateway", settings.instance, settings.log_level, secrets=secrets_of(settings) | held | {key.decode()})
    door = settings.gateway
    if not tokens:
        log.warning("no tokens: everybody on this machine may read, publish and operate (TIDEMILL_GATEWAY__TOKENS_FILE)", extra={"host": door.host})
    else:
        holders = {name: list(one.roles) for name, one in tokens.items()}
        log.info("tokens are asked for", extra={"holders": holders, "file": str(door.tokens_file or "")})
    publisher = KafkaPublisher(settings.kafka.bootstrap_servers, settings.kafka.client_options())
    registry = ConfluentSchemaRegistry(settings.registry.url)
    broker = KafkaBroker(
        settings.kafka.bootstrap_servers,
        settings.kafka.client_options(),
        deadline_s=settings.kafka.deadline_s,
        topics=settings.kafka.topic_settings(),
    )
    app = build_app(
        plan,
        RedisFeatureReader(settings.redis.url, plan),
        publisher,
        door=Door(door, TokenBook(tokens), publisher.limits),
        desk=SigningDesk(plan, publisher, registry, key),
        drift=KafkaDriftDesk(plan, broker, registry),
        explanations=KafkaExplanationDesk(plan, broker, registry) if "explanations" in plan.application.stages else None,
        letters=KafkaLetterDesk(plan, broker, registry, settings.ingestion.clock == "replay", Lake(settings.lake.uri, plan.application.app)),
    )
    with socket.create_server((door.host, door.port), family=socket.AF_INET6 if ":" in door.host else socket.AF_INET) as listening:
        # Connections inherit it. An answer is two writes (head, body), and without it the second waits 40 ms for the first's acknowledgement.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        log.info("listening", extra={"host": door.host, "port": listening.getsockname()[1]})
        server(app, door).run([listening])
    publisher.close()
    return 0


def _misconfigured(problem: str) -> int:
    sys.stderr.write(f"gateway: {problem}\n")
    return MISCONFIGURED


raise SystemExit(main())

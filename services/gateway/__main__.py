"""Run the gateway: ``python -m services.gateway``."""

import logging
import socket
import sys

import uvicorn
from pydantic import ValidationError

from services.gateway.app import KafkaPublisher, build_app
from services.gateway.settings import GatewaySettings
from shared.application.errors import ApplicationError
from shared.application.planning import load_plan
from shared.observability.logging import configure_logging
from shared.online_store.redis_store import RedisOnlineStore

MISCONFIGURED = 2
QUICK_S = 0.1
KEEP_ALIVE_S = 75  # Readers keep their connections; opening one costs more than a read.
log = logging.getLogger(__name__)


def main() -> int:
    """Serve until a signal; 2 when settings or application are wrong."""
    try:
        settings = GatewaySettings()  # type: ignore[call-arg, unused-ignore] # from the environment
        plan = load_plan(settings.application)
    except (ValidationError, ApplicationError) as problem:
        sys.stderr.write(f"gateway: {problem}\n")
        return MISCONFIGURED
    configure_logging("gateway", settings.instance, settings.log_level)
    store = RedisOnlineStore(settings.redis.url, plan)
    quick = RedisOnlineStore(settings.redis.url, plan, timeout_s=QUICK_S)
    app = build_app(plan, store, KafkaPublisher(settings.kafka.bootstrap_servers, settings.kafka.client_options()), quick=quick)
    with socket.create_server((settings.gateway.host, settings.gateway.port)) as door:
        # Connections inherit it. An answer is two writes (head, body), and without it the second waits 40 ms for the first's acknowledgement.
        door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        log.info("listening", extra={"host": settings.gateway.host, "port": door.getsockname()[1]})
        uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_keep_alive=KEEP_ALIVE_S)).run([door])
    store.close()
    quick.close()
    return 0


raise SystemExit(main())

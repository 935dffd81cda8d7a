"""Run archive: ``python -m services.archive``."""

from services.archive.service import STAGE, build
from shared.observability.settings import ServiceSettings
from shared.streaming.service_process import run_service

# While it processes it appends to the lake: a child that only tries records would append them.
raise SystemExit(run_service(STAGE, build, ServiceSettings, in_children=False))

"""Run outcomes: ``python -m tidemill.services.outcomes``."""

from tidemill.services.outcomes.service import STAGE, build
from tidemill.shared.observability.settings import ServiceSettings
from tidemill.shared.service.service_process import run_service

raise SystemExit(run_service(STAGE, build, ServiceSettings))

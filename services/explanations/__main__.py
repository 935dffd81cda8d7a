"""Run explanations: ``python -m tidemill.services.explanations``."""

from tidemill.services.explanations.service import STAGE, build
from tidemill.shared.observability.settings import ServiceSettings
from tidemill.shared.service.service_process import run_service

raise SystemExit(run_service(STAGE, build, ServiceSettings))

"""Run drift: ``python -m tidemill.services.drift``."""

import tidemill.shared.without_pandas  # noqa: F401 - before all that makes arrays
from tidemill.services.drift.service import STAGE, build
from tidemill.shared.observability.settings import ServiceSettings
from tidemill.shared.service.service_process import run_service

raise SystemExit(run_service(STAGE, build, ServiceSettings))

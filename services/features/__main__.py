"""Run features: ``python -m tidemill.services.features``."""

import tidemill.shared.without_pandas  # noqa: F401 - before all that makes arrays
from tidemill.services.features.service import STAGE, build
from tidemill.shared.observability.settings import ServiceSettings
from tidemill.shared.service.service_process import run_service

raise SystemExit(run_service(STAGE, build, ServiceSettings))

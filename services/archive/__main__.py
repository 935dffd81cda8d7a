"""Run archive: ``python -m tidemill.services.archive``."""

import tidemill.shared.without_pandas  # noqa: F401 - before all that makes arrays
from tidemill.services.archive.service import STAGE, build
from tidemill.shared.observability.settings import ServiceSettings
from tidemill.shared.service.service_process import run_service

# While it processes it appends to the lake: a child that only tries records would append them.
raise SystemExit(run_service(STAGE, build, ServiceSettings, in_children=False))

"""Run ingestion: ``python -m tidemill.services.ingestion``."""

import tidemill.shared.without_pandas  # noqa: F401 - before all that makes arrays
from tidemill.services.ingestion.service import STAGE, build
from tidemill.services.ingestion.settings import IngestionSettings
from tidemill.shared.service.service_process import run_service

raise SystemExit(run_service(STAGE, build, IngestionSettings))

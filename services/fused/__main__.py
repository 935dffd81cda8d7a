"""Run ingestion, features and scoring as one: ``python -m tidemill.services.fused``."""

import tidemill.shared.without_pandas  # noqa: F401 - before all that makes arrays
from tidemill.services.fused.service import STAGE, build
from tidemill.services.ingestion.settings import IngestionSettings
from tidemill.shared.service.service_process import run_service

raise SystemExit(run_service(STAGE, build, IngestionSettings))

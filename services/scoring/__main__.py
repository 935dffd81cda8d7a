"""Run scoring: ``python -m tidemill.services.scoring``."""

import tidemill.shared.without_pandas  # noqa: F401 - before all that makes arrays
from tidemill.services.scoring.service import STAGE, build
from tidemill.services.scoring.settings import ScoringSettings
from tidemill.shared.service.service_process import run_service

raise SystemExit(run_service(STAGE, build, ScoringSettings))

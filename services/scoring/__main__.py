"""Run scoring: ``python -m services.scoring``."""

from services.scoring.service import STAGE, build
from services.scoring.settings import ScoringSettings
from shared.streaming.service_process import run_service

raise SystemExit(run_service(STAGE, build, ScoringSettings))

"""Run ingestion, features and scoring as one: ``python -m services.fused``."""

from services.fused.service import STAGE, build
from services.ingestion.settings import IngestionSettings
from shared.streaming.service_process import run_service

raise SystemExit(run_service(STAGE, build, IngestionSettings))

"""Run retraining: ``python -m services.retraining``."""

from services.retraining.service import STAGE, build
from shared.observability.settings import ServiceSettings
from shared.streaming.service_process import run_service

# While it processes it starts trainings: a child that only tries records would train.
raise SystemExit(run_service(STAGE, build, ServiceSettings, in_children=False))

"""Run retraining: ``python -m tidemill.services.retraining``."""

from tidemill.services.retraining.service import STAGE, build
from tidemill.shared.observability.settings import ServiceSettings
from tidemill.shared.service.service_process import run_service

# While it processes it starts trainings: a child that only tries records would train.
raise SystemExit(run_service(STAGE, build, ServiceSettings, in_children=False))

"""What the services of a run have in common, loaded once by the process that they are forked from (`tidemill.shared.fork_server`)."""

import tidemill.shared.service.loaded_once  # noqa: F401 - before all that makes arrays
from tidemill.services.archive import service as _archive  # noqa: F401
from tidemill.services.features import service as _features  # noqa: F401
from tidemill.services.ingestion import service as _ingestion  # noqa: F401
from tidemill.services.outcomes import service as _outcomes  # noqa: F401
from tidemill.services.retraining import service as _retraining  # noqa: F401

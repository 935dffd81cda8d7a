"""What stages have in common, loaded once by the process that they, or children that try records, are forked from (`tidemill.shared.fork_server`).

What one stage alone needs is left to it (scipy, river), and so is what starts threads when it is loaded (onnxruntime) or is a world of its own
(faust, the web server).
"""

import onnx  # noqa: F401

import tidemill.shared.without_pandas  # noqa: F401 - before all that makes arrays
from tidemill.shared.service import service_process  # noqa: F401
from tidemill.shared.without_blas import leave_out_blas

leave_out_blas()

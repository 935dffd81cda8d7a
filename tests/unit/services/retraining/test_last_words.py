"""Why a training ended, out of what libraries and colours leave of its log."""

import pytest

from tidemill.services.retraining.processes.last_words import last_words

TRACEBACK = """the training was ended by something that may pass
Traceback (most recent call last):
  File "tables.py", line 80, in read
    table = self._open(name)
            ^^^^^^^^^^^^^^^^
OSError: Generic S3 error
  \x1b[31m\u21b3\x1b[0m Error performing PUT http://169.254.169.254/latest/api/token
   \x1b[31m\u21b3\x1b[0m IMDS is disabled

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "job.py", line 70, in run
    found = lake.read(name)
tidemill.shared.log.errors.TransientError: table vectors: no answer from the lake
"""
CHATTER = "\x1b[2m2026-01-02T03:04:05.678901Z\x1b[0m \x1b[33m WARN\x1b[0m aws_config::imds: IMDS is disabled\n"


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (TRACEBACK, "tidemill.shared.log.errors.TransientError: table vectors: no answer from the lake"),
        (TRACEBACK + CHATTER, "tidemill.shared.log.errors.TransientError: table vectors: no answer from the lake"),
        (
            TRACEBACK[: TRACEBACK.index("\nThe above")],
            "OSError: Generic S3 error; \u21b3 Error performing PUT http://169.254.169.254/latest/api/token; \u21b3 IMDS is disabled",
        ),
        (CHATTER + "terminate called: 'std::bad_alloc'\n" + CHATTER, "terminate called: 'std::bad_alloc'"),
        (CHATTER, "2026-01-02T03:04:05.678901Z  WARN aws_config::imds: IMDS is disabled"),
        ("\x1b[1;31mred\x1b[0m\n\n", "red"),
        ("Traceback (most recent call last):\n  File", "File"),
        ("", "no output"),
    ],
)  # fmt: skip
def test_the_line_that_says_why_is_found(log: str, words: str) -> None:
    assert last_words(log) == words


def test_a_reason_is_no_longer_than_a_record_should_carry() -> None:
    assert len(last_words("x" * 10_000)) == 500

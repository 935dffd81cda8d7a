"""Rewrite the assertions of the test modules before several processes want them at once: ``python -m tests.byte_code``.

pytest rewrites each module that it finds no byte code of. The workers of a run import the same modules in the same order at the same time, so each
would do it again.
"""

import ast
import importlib.util
import os
from pathlib import Path

from _pytest.assertion import rewrite

TESTS = Path(__file__).parent
_TESTED = ("test_*.py", "conftest.py")


def main() -> None:
    """Rewrite what is new or has changed."""
    for pattern in _TESTED:
        for path in sorted(TESTS.rglob(pattern)):
            keep_rewritten(path)


def keep_rewritten(source: Path) -> None:
    """Write the byte code of a module where pytest looks for it, unless it is there."""
    kept = rewrite.get_cache_dir(source) / (source.stem + rewrite.PYC_TAIL)
    if rewrite._read_pyc(source, kept) is not None:
        return
    text, name = source.read_bytes(), str(source)
    tree = ast.parse(text, filename=name)
    rewrite.rewrite_asserts(tree, text, name)
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_name(f"{kept.name}.{os.getpid()}")
    with part.open("wb") as file:
        rewrite._write_pyc_fp(file, importlib.util.source_hash(text), compile(tree, name, "exec", dont_inherit=True))
    part.replace(kept)


if __name__ == "__main__":
    main()

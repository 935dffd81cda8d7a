"""What is rewritten in advance is what pytest would rewrite."""

from pathlib import Path

import pytest
from _pytest.assertion import rewrite

from tests.byte_code import keep_rewritten


def test_pytest_takes_the_byte_code_until_the_module_changes(tmp_path: Path) -> None:
    module = tmp_path / "test_module.py"
    module.write_text("def of(value):\n    assert value == 1\n")
    keep_rewritten(module)
    (kept,) = (tmp_path / "__pycache__").iterdir()
    assert kept.name == f"test_module{rewrite.PYC_TAIL}"
    code, names = rewrite._read_pyc(module, kept), dict[str, object]()
    assert code is not None and code == rewrite._rewrite_test(module, None)[1]  # type: ignore[arg-type]  # it takes what `rewrite_asserts` takes
    exec(code, names)
    with pytest.raises(AssertionError, match="assert 2 == 1"):
        names["of"](2)  # type: ignore[operator]  # of the module above
    written = kept.stat().st_mtime_ns
    keep_rewritten(module)
    assert kept.stat().st_mtime_ns == written
    module.write_text("changed = True\n")
    assert rewrite._read_pyc(module, kept) is None
    keep_rewritten(module)
    assert rewrite._read_pyc(module, kept) is not None

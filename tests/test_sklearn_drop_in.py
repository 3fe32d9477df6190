"""scikit-learn's own tests of its estimators, with the import line changed: they pass with ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import sklearn.semi_supervised

THEIRS = Path(sklearn.semi_supervised.__file__).parent / "tests" / "test_label_propagation.py"
"""Part of scikit-learn's wheel."""
THEIR_IMPORT = "from sklearn.semi_supervised import _label_propagation as label_propagation"
OUR_IMPORT = "from annotator.models import label_spreading as label_propagation"
EXEMPTED: dict[str, str] = {}
"""Names of their tests that ours need not pass, each with its reason. None: answers that end early are theirs too."""


def test_scikit_learns_own_tests_pass_with_our_estimators(tmp_path: Path) -> None:
    """Only the import line is changed; all of them run, in single precision too, and warnings are as they expect."""
    theirs = THEIRS.read_text()
    assert theirs.count(THEIR_IMPORT) == 1
    (tmp_path / "test_theirs.py").write_text(theirs.replace(THEIR_IMPORT, OUR_IMPORT))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    options = ["-q", "-p", "sklearn.conftest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    for name in EXEMPTED:
        options += ["--deselect", f"test_theirs.py::{name}"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test_theirs.py"],
        cwd=tmp_path,
        env=os.environ | {"SKLEARN_RUN_FLOAT32_TESTS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-2000:]
    assert " passed" in ended.stdout
    assert "failed" not in ended.stdout

"""The direction of imports, as setup.cfg says."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_contracts_are_kept() -> None:
    result = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout


def test_each_setting_is_in_one_file_only() -> None:
    # setup.cfg holds the architecture; a section that pyproject.toml has too would be half dead.
    assert [
        line for line in (ROOT / "setup.cfg").read_text().splitlines() if line.startswith("[")
    ] == [
        "[importlinter]",
        "[importlinter:contract:layers]",
        "[importlinter:contract:pytest]",
        "[importlinter:contract:psycopg]",
        "[importlinter:contract:redis]",
    ]

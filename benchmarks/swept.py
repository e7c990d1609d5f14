"""``manage.py`` that says what the sweeps of its tests have tried: a part of ``benchmarks.sweep``.

``python -m benchmarks.swept test ...``. The last line that it prints is JSON: how many runs were
tried by all sweeps together, of how many before reduction where that is known, and what was found.
"""

import json
import sys
from typing import Any

from django.core.management import execute_from_command_line


def main() -> None:
    """Run the command of Django's that is given."""
    from itkit.sweep.variations import Sweep

    counts = {"tried": 0, "total": 0, "found": 0}
    report = Sweep.report

    def noted(sweep: Sweep) -> str:
        counts["tried"] += sweep.tried
        counts["total"] += getattr(sweep, "_total", 0)
        counts["found"] += len(sweep.findings)
        return report(sweep)

    Sweep.report = noted  # type: ignore[method-assign]  # it is counted on the way
    status: Any = 0
    try:
        execute_from_command_line(["manage.py", *sys.argv[1:]])
    except SystemExit as end:
        status = end.code
    print(json.dumps(counts), flush=True)
    sys.exit(status)


if __name__ == "__main__":
    main()

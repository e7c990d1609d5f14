"""Run one benchmark and print its rows; the exit code is 0 whatever the figures say."""

import argparse
import json
from pathlib import Path

from benchmarks import data, fakes, redis, report, reset, services, startup, sweep, verdicts

BENCHMARKS = {
    "services": services.measure,
    "startup": startup.measure,
    "reset": reset.measure,
    "redis": redis.measure,
    "fakes": fakes.measure,
    "data": data.measure,
    "sweep": sweep.measure,
    "report": report.measure,
    "verdicts": verdicts.measure,
}


def main() -> None:
    """Parse the command line, measure, print, and write JSON where it is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=BENCHMARKS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as well")
    arguments = parser.parse_args()
    rows = BENCHMARKS[arguments.name]()
    for row in rows:
        sign = ">=" if row.bound == "min" else "<="
        print(
            f"{row.name:<60} ours {row.ours:8.3f} {row.unit}  peer {row.peer:8.3f} {row.unit}"
            f"  ratio {row.ratio:6.2f} ({sign} {row.target}: {'met' if row.met else 'NOT met'})"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps([row.as_dict() for row in rows], indent=2))


if __name__ == "__main__":
    main()

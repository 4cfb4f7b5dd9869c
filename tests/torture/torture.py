"""Kill protcli, restart its server and fill its disk: nothing may be lost, nothing twice, nothing left.

`python tests/torture/torture.py --kills 200` prints a table. Commands run in forked processes, to import once.
"""

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

from full_disk import torture_disk
from kills import STORES, torture_commands, torture_server


def main() -> int:
    """Print the table; exit code 1 if anything was lost, doubled or left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="of processes (default 200)")
    parser.add_argument("--restarts", type=int, default=20, help="of the server during one training (default 20)")
    parser.add_argument(
        "--full-disks", type=int, default=40, help="over all commands; needs root on Linux (default 40)"
    )
    parser.add_argument("--stores", nargs="+", choices=STORES, default=STORES, help="of the runs (default both)")
    parser.add_argument("--leave-out", nargs="+", default=(), help="commands that meet no full disk")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for place, (torture, number) in enumerate((
            (partial(torture_commands, stores=options.stores), options.kills), (torture_server, options.restarts),
            (partial(torture_disk, left_out=options.leave_out), options.full_disks),
        )):  # fmt: skip
            for row in torture(Path(folder) / str(place), number, options.seed) if number else ():
                print(row, flush=True)
                rows.append(row)
    print(f"{sum(row.accidents[0] for row in rows)} accidents, {sum(len(row.problems) for row in rows)} problems")
    return int(any(row.problems for row in rows))


if __name__ == "__main__":
    sys.exit(main())

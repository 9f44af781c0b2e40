"""`make bench`: the whole table, and build/bench.json.

    python -m benchmarks.suite [--only abcefighjkd] [--rounds N] [--jobs N] [--json FILE]

All peers take turns in one run, on the same machine, with the same image and the same work; a first
round that warms up is not counted. No other program should run meanwhile. Needs a Docker engine,
and Debian's packages redis-server, imagemagick, primesieve, postgresql, chromium, nginx-core, curl.
"""

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.suite import (
    after,
    compute,
    endurance,
    hosts,
    machine,
    submissions,
)
from benchmarks.suite.peers import celery, floor
from benchmarks.suite.report import FLOOR, OURS, Row, save, table
from benchmarks.suite.sides import (
    COLD,
    COLD_VARIABLES,
    SLOTS,
    TREE,
    PrefectSide,
    Side,
    ours,
    stock,
)
from benchmarks.suite.starts import drains, freed, starts
from benchmarks.suite.through_gateway.page import gateway
from tests.support.platform import platform_up

_SIZES = (1_000, 10_000)
_ALL = "abcefighjkd"
_MANY = 1_000
_HOSTS = 40
_LISTED, _PAGES = 10_000, 200


def main() -> None:
    """Measure the requested rows, print the table and save it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=_ALL, help="letters of the rows to measure")
    parser.add_argument("--pools", nargs="+", default=["docker", "process"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=24)
    parser.add_argument("--many", type=int, default=_MANY, help="jobs of row i")
    parser.add_argument("--hosts", type=int, default=_HOSTS, help="hosts of row j")
    parser.add_argument("--sizes", type=int, nargs="+", default=_SIZES)
    parser.add_argument("--json", type=Path, default=TREE / "build" / "bench.json")
    given = parser.parse_args()
    described = machine.describe()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        home.chmod(0o755)  # programs of other users have folders in it
        for pool in given.pools:
            if set(given.only) & set("abcefhi"):
                rows += _of_pool(home / pool, pool, given)
        if "g" in given.only:
            rows += _shown(compute.pictures(home / "pictures", given.rounds))
            rows += _shown(compute.primes(home / "primes", given.rounds))
            rows += _shown(compute.averages(home, given.rounds))
            rows += _shown(compute.whole(home / "whole", given.rounds))
        if "j" in given.only:
            rows += _shown(hosts.idle(home / "j", given.hosts))
        if "k" in given.only:
            rows += _shown(gateway(home / "k", _LISTED, _PAGES, 4 * given.rounds))
        if "d" in given.only:
            rows += _shown(submissions.submissions(home / "d", tuple(given.sizes), given.rounds))
    print("\n".join(table(rows)))
    save(given.json, described, rows)
    print(", ".join(f"{name} {value}" for name, value in described.items()))


def _of_pool(home: Path, pool: str, given: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    settings = {"PREFECTURE_ALLOW_PRIVATE_WEBHOOKS": "true"}
    with ExitStack() as stack:
        up = stack.enter_context(platform_up(home / "ours", pool, SLOTS, settings=settings))
        own = ours(up)
        template = own.server.ask("GET", f"/work_pools/{pool}")["base_job_template"]
        image = template["job_configuration"].get("image", "")
        sides: dict[str, Side] = {
            OURS: own,
            **({COLD: ours(up, **COLD_VARIABLES)} if pool == "docker" else {}),
            "stock": stack.enter_context(stock(home / "stock", pool, image)),
            FLOOR: floor(pool, image),
        }
        if "a" in given.only:
            rows += _shown(starts(pool, sides, given.rounds))
        if "e" in given.only:
            served = {who: side for who, side in sides.items() if isinstance(side, PrefectSide)}
            rows += _shown(freed(pool, served, min(2, given.rounds)))
        if set("bc") & set(given.only):
            sides["celery"] = stack.enter_context(celery(home / "celery", pool, image))
            rows += _shown(drains(pool, sides, given.rounds, given.jobs))
        if "f" in given.only:
            rows += _shown([after.notified(up, own, given.rounds)])
        if "i" in given.only:
            rows += _shown(endurance.drained(up, own, given.many))
        if "h" in given.only and pool == "docker":
            rows += _shown([after.crashed(up, own, given.rounds)])
    return rows


def _shown(rows: list[Row]) -> list[Row]:
    """Print rows at once: the whole run takes an hour, and may be interrupted."""
    print("\n".join(table(rows)[1:]), flush=True)
    return rows


if __name__ == "__main__":
    sys.exit(main())

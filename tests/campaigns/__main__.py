"""Run campaigns: `python tests/campaigns [NAME...]`. A campaign that was interrupted goes on where it stopped.

Each prints what was tried, the number of violations and the number of the first; `--case N` runs one case again, with
its traceback. The state is in build/campaigns/, by commit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("src", "scripts", "tests", "tests/local", "tests/aws")]

from campaigns.campaign import Campaign  # noqa: E402
from campaigns.catalog import CAMPAIGNS  # noqa: E402


def run(campaign: Campaign, state: Path) -> dict[str, Any]:
    """Run the cases that are left, and return what all cases gave."""
    found: dict[str, Any] = {"tried": 0, "violations": 0, "first": None, "s": 0.0}
    if state.is_file():
        found = json.loads(state.read_text())
    started, before = time.monotonic(), found["s"]
    with tempfile.TemporaryDirectory() as folder, campaign.prepare(Path(folder)) as case:
        for number in range(found["tried"], campaign.count):
            try:
                case(campaign.random(number))
            except Exception as error:
                found["violations"] += 1
                found["first"] = number if found["first"] is None else found["first"]
                message = f"{type(error).__name__}: {error}"
                shown = message if len(message) < 3000 else f"{message[:1000]} ... {message[-2000:]}"
                print(f"{campaign.name}, case {number}: {shown}", flush=True)
            found |= {"tried": number + 1, "s": round(before + time.monotonic() - started, 1)}
            state.write_text(json.dumps(found))
    return found


def main() -> int:
    """Run the campaigns and print a table of them. Return 1 if there was a violation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(each.name for each in CAMPAIGNS))
    parser.add_argument("--case", type=int, metavar="N", help="run only this case, with its traceback")
    args = parser.parse_args()
    unknown = set(args.names) - {each.name for each in CAMPAIGNS}
    if unknown:
        parser.error(f"there is no campaign {', '.join(sorted(unknown))}")
    chosen = [each for each in CAMPAIGNS if not args.names or each.name in args.names]
    if args.case is not None:
        for campaign in chosen:
            with tempfile.TemporaryDirectory() as folder, campaign.prepare(Path(folder)) as case:
                case(campaign.random(args.case))
        return 0
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    commit = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    states = ROOT / "build" / "campaigns" / commit
    states.mkdir(parents=True, exist_ok=True)
    violations = 0
    print(
        f"commit {commit}\n\n| Campaign | Promise | Tried | Violations | First | Seconds |\n|---|---|---|---|---|---|"
    )
    for campaign in chosen:
        found = run(campaign, states / f"{campaign.name}.json")
        first = "-" if found["first"] is None else found["first"]
        row = [campaign.name, campaign.promise, found["tried"], found["violations"], first, found["s"]]
        print(f"| {' | '.join(map(str, row))} |", flush=True)
        violations += found["violations"]
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())

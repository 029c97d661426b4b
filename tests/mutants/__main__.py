"""`python -m tests.mutants`: how many of the faults in `faults/` the tests notice; takes half an hour or more."""

import argparse
import sys
from pathlib import Path

from tests.helpers.paths import ROOT
from tests.mutants.records import faults
from tests.mutants.runner import add_result, copied, digest, known_results, outcome_of, passes, summary

WANTED = 0.95
"""Share of the faults that must be noticed."""


def main() -> int:
    """Run the command; return 0 if enough faults were noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", metavar="TEXT", help="only faults whose name or file contains a text")
    parser.add_argument("--results", type=Path, default=ROOT / "runs" / "mutants.jsonl", help="file to resume from")
    parser.add_argument("--unchanged", action="store_true", help="only check that the tests pass without a fault")
    given = parser.parse_args()
    chosen = [each for each in faults() if not given.only or given.only in each.name or given.only in each.file]
    if not chosen:
        parser.error(f"no fault has {given.only!r} in its name or file")
    with copied(ROOT) as copy:
        if given.unchanged:
            passed, detail = passes((test for fault in chosen for test in fault.tests), copy)
            print(detail)
            return not passed
        known, found = known_results(given.results), []
        for number, fault in enumerate(chosen, start=1):
            result = known.get(fault.name)
            if result is None or result.digest != digest(fault, ROOT):
                result = outcome_of(fault, ROOT, copy)
                add_result(given.results, result)
            found.append(result)
            print(f"{number}/{len(chosen)} {fault.name}: {result.outcome} ({result.detail})", flush=True)
    print(summary(found))
    return sum(each.outcome == "noticed" for each in found) < WANTED * len(found)


if __name__ == "__main__":
    sys.exit(main())

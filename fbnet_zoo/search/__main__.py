"""`python -m fbnet_zoo.search`: the command `fbnet-zoo search`, for `accelerate launch -m`."""

import runpy
import sys

if __name__ == "__main__":
    sys.argv.insert(1, "search")
    runpy.run_module("fbnet_zoo", run_name="__main__", alter_sys=True)

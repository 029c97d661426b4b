"""`python -m fbnet_zoo.search` is the command `fbnet-zoo search`, in the form that `accelerate launch -m` starts."""

import runpy
import sys

if __name__ == "__main__":
    sys.argv.insert(1, "search")
    runpy.run_module("fbnet_zoo", run_name="__main__", alter_sys=True)

"""One workload in a process of its own.

``python -m bench.speed.worker NAME SCALE PEERS`` prints JSON.
"""

import json
import sys
import warnings

from bench.speed import peers
from bench.speed.timing import Clock
from bench.speed.workloads import WORKLOADS

if __name__ == "__main__":
    name, scale, beside = sys.argv[1], float(sys.argv[2]), sys.argv[3] == "peers"
    # What failed is counted in the figures.
    warnings.simplefilter("ignore")
    clock = Clock(peers.Lme4(name) if beside and name in peers.LME4 else None)
    figures = WORKLOADS[name](scale, clock)
    print(json.dumps({"figures": figures, "peak_mb": clock.peak_mb()}))

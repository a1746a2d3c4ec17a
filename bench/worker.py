"""One workload in a process of its own: ``python -m bench.worker NAME SCALE`` prints JSON."""

import json
import sys
import warnings

from bench.workloads import WORKLOADS, peak_memory

if __name__ == "__main__":
    name, scale = sys.argv[1], float(sys.argv[2])
    # What failed is counted in the figures.
    warnings.simplefilter("ignore")
    figures = WORKLOADS[name](scale)
    print(json.dumps({"figures": figures, "peak_mb": peak_memory()}))

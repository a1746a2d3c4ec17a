"""What the figures were measured on."""

import json
import os
import platform
import re
import subprocess
from datetime import date
from pathlib import Path

from jaxhlm.core.versions import versions

RESULTS = Path(__file__).with_name("results")
PACKAGES = ("jaxhlm", "jax", "jaxlib", "optax", "numpy", "pandas", "statsmodels", "mixedlm")


def describe() -> dict[str, str]:
    """Processor, cores, memory, device and versions, as short strings."""
    import jax

    device = jax.devices()[0]
    facts = {
        "machine": processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "device": device.device_kind if device.platform != "cpu" else "cpu",
        "python": platform.python_version(),
    }
    return {**facts, **versions(PACKAGES)}


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def r_versions() -> dict[str, str]:
    """R and lme4, or nothing where they are not installed."""
    code = 'cat(sprintf(\'{"R": "%s", "lme4": "%s"}\', getRversion(), packageVersion("lme4")))'
    try:
        done = subprocess.run(
            ["Rscript", "-e", code], capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return json.loads(done.stdout)


def results_path(folder: Path, facts: dict[str, str], what: str = "") -> Path:
    """A CSV file in a folder, which is made, named after the day, the machine and what is in it."""
    name = facts["machine"] if facts["device"] == "cpu" else facts["device"]
    parts = [date.today().isoformat(), re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"), what]
    folder.mkdir(parents=True, exist_ok=True)
    return folder / ("-".join(filter(None, parts)) + ".csv")

"""How fast: the workloads of ``python -m bench``; one fit by ``python -m bench.speed.single``."""

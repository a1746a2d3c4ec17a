"""How fast on a GPU or whatever JAX finds: ``python -m bench.accelerator``."""

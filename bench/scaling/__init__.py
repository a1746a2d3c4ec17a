"""How fits go with devices and workers, and what 10⁹ of them take: ``python -m bench.scaling``."""

"""``fit``, ``fit_many`` and the bootstraps: all stages in order."""

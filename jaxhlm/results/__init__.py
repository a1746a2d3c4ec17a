"""Functions of one record of fitted data sets, and what users hold: ``Fit`` and ``FitBatch``."""

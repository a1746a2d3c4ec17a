"""What the user holds: ``Fit``, ``FitBatch`` and ``Bootstrap``, accessor by accessor."""

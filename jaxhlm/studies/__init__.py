"""Simulation studies: designs, violations, methods, measures, power, and studies of conditions."""

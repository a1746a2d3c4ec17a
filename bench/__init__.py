"""Benchmarks, from the root of the repository: ``python -m bench`` for speed; bench/validation."""

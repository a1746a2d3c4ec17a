"""What ``jaxhlm.plot`` draws; matplotlib is needed here and nowhere else."""

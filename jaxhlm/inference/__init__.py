"""What follows from the minima: degrees of freedom, tests, intervals, influence."""

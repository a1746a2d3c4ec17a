"""The likelihood of one data set, for one and for many: read ``deviance`` first."""

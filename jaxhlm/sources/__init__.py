"""Where the rows of many data sets come from."""

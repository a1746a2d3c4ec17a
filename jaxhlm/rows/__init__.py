"""From rows, given or drawn, to sufficient statistics, in NumPy: columns, groups, scales."""

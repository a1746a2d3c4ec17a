"""From statistics to minima: starts, steps, compaction, further starts."""

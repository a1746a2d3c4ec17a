"""From sufficient statistics to minima: derivatives, start, steps, and many lanes at once."""

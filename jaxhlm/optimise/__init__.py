"""From statistics to minima: starts, steps, rounds, further starts."""

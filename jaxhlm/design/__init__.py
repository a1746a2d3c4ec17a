"""From a frame and a formula to the columns of X and Z, and what they identify."""

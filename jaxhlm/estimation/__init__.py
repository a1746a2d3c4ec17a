"""From minima to estimates in the user's units, and what labels them."""

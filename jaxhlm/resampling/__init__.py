"""Bootstraps: what is drawn from a fit, the fits of what was drawn, and what they say."""

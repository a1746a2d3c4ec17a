"""The command ``jaxhlm``."""

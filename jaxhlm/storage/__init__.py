"""Runs on disk: a manifest and finished chunks, written by one process at a time."""

"""Starts, watches, restarts and stops processes; knows nothing of the links between them."""

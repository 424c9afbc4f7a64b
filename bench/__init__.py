"""Measurements side by side: `python -m bench`, or `make bench`."""

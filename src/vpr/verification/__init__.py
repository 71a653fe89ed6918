"""Check a dataset's files, coordinates and counts, and show it on a page."""

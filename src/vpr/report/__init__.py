"""The report of a run: what it reaches, where it fails and what it looks at, on one page that works offline."""

"""Is the dataset what it should be? Checks of files, coordinates and counts, and a page that shows it."""

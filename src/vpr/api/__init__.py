"""Use a model from Python, in another format or under its name, and fetch photos: nothing here trains."""

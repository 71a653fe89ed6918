"""Use a model from Python, in another tool's format, or under its name: nothing here trains or needs a project."""

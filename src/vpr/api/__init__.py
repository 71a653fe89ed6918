"""The Python library: load a model, locate photos, export a model, and fetch photos of a street."""

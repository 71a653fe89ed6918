"""The model: a backbone, an aggregator, and a projection; its checkpoint, and what it makes of images."""

"""The model: a backbone, an aggregator and a projection; its checkpoint, and how it describes images."""

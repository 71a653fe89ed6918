"""Search for the nearest descriptors, find the positives, and compute recall."""

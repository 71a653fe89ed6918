"""Re-rank uncertain queries by local features."""

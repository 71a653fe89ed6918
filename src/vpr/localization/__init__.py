"""Index files and the calibrated confidence: what the stages need to locate photos."""

"""Compare results: MLflow, paired tests, sweeps and the summary in the terminal."""

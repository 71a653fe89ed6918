"""Results side by side: MLflow, comparisons, sweeps and the summary in the terminal."""

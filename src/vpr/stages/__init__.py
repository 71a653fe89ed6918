"""One file for each stage of dvc.yaml: it parses, calls and writes."""

import os

# Threads that wait give their core away. By default they spin, and two trainings on one machine take far more than
# twice the time of one. OpenMP reads this when torch is loaded, so it stands before anything that loads it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

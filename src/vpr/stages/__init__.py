"""The stages of dvc.yaml, one in each file: a stage parses its arguments, calls the library and writes files."""

import os

# Waiting threads yield their core. By default they spin, so that two trainings on one machine take far more than twice
# the time of one. OpenMP reads this variable when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

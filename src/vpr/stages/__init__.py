"""One file for each stage of dvc.yaml: it parses, calls and writes."""

"""Pages of docs/ that are written from the code, and the blocks of params.yaml that follow from it."""

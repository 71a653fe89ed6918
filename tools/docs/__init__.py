"""Write the pages of docs/ and the blocks of params.yaml that are generated from the code: ``make docs``."""

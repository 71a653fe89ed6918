"""Visual place recognition: train, extract, evaluate."""

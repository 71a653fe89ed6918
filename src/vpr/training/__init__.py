"""Train a model: batches of places, the training signal, the loop, and the files that a training leaves."""

"""From places to weights: batches, the training signal, the loop, and what a training leaves behind."""

"""Datasets: from images on a disk to batches."""

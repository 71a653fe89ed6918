"""Datasets: one file for each, and the code that downloads, unpacks and lists published sets."""

"""Describe whole sets of images: the model as it is evaluated, its descriptors on the disk, and Ray."""

"""The manifest, images and how they are read, coordinates, checksums and small helpers that every step shares."""

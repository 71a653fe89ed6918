"""What every step shares: the manifest, images and how they are read, file names, coordinates and checksums."""

"""From descriptors to a ranking, and from a ranking to recalls."""

"""Published models: their table, how they are found and fetched, and how to reproduce their recalls."""

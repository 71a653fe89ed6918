"""Where images come from: one file for each dataset, and what fetches, unpacks and lists published sets."""

"""Answer the question where a photo was taken: the index, the answers, and the ways to give them to people."""

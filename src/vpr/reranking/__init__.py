"""A second look at the doubtful: the first predictions of a query compared again by local features."""

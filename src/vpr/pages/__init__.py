"""What the pages share, so that they look like one: colours, type, spacing."""

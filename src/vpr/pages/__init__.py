"""The style sheet that all pages share, and how they show images and dates."""

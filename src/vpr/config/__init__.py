"""What every step starts from: params.yaml, the tables of components, the project's folders, and errors."""

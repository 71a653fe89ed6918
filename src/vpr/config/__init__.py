"""Settings, tables of components, folders, errors and progress. Every folder except ``pages`` imports this one."""

"""Settings, tables of components, the project's folders, errors and progress: every other folder imports this one."""

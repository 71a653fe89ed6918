"""The command line ``vpr``: a file for each group of commands, with the arguments of a command beside its function."""

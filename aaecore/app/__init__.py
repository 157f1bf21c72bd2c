"""The command line: runs, their configuration, data, tables and pictures."""

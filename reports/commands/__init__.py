"""The workflow behind each command, one module per command."""

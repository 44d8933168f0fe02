"""Workflows behind the commands: one file each."""

"""The report as its reader meets it: one file a section, and what writes and reads the folder."""

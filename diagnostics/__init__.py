"""Measurements and hypotheses: pure functions on tables. No model, no database, no HTML, no files."""

"""What we find: pure functions from tables to frames and findings. No model, no database, no HTML, no files."""

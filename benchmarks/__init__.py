"""Measurements that take too long for a test: speed, and how often the diagnosis and the advice are right."""

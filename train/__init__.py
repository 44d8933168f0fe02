"""Training, finished runs, and forward passes of a detector over images."""

from train.environment import harden

# Before anything below this package imports ultralytics: see environment.py.
harden()

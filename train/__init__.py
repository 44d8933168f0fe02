"""What we diagnose: a finished training run, and everything one forward pass over images says."""

from train.environment import harden

# Before anything below this package imports ultralytics: see environment.py.
harden()

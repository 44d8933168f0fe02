"""Training, finished runs, and forward passes of a detector over images."""

from train.environment import harden

# Called before any module of this package imports ultralytics, see environment.py.
harden()

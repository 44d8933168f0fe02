"""From options to a result: sources, inference, interventions, checkpoints."""

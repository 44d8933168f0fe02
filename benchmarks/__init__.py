"""What is measured rather than tested: speed against other evaluators."""

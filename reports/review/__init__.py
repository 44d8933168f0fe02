"""Five minutes of a person: frames shown on a local page, on which every object is clicked."""

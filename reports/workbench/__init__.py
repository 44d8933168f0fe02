"""FiftyOne: a report's dataset, its views and panels, the App, and edits read back from it.

Only this package imports fiftyone.
"""

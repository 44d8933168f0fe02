"""FiftyOne: the dataset that a report fills, its views, right numbers in its panels, the App, and the way back. The only room that imports fiftyone."""

"""Writers of labels and detections in the formats of annotation tools: one file a format."""

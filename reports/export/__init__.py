"""Writers of images with boxes in the formats of annotation tools: one module per format."""

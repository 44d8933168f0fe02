"""Prediction of images, videos and cameras: frames, drawn detections, resumable segments and tables."""

"""Videos, cameras and overlays: what `shiftscope predict` reads, draws and writes."""

"""Sources of images and annotations, read into tables and a ledger that lists every file once."""

"""What people read: the HTML page, its Markdown and JSON twins, the FiftyOne dataset, and the console script."""

"""Commands and their output: reports as HTML, Markdown and JSON, the FiftyOne dataset, tables and exports."""

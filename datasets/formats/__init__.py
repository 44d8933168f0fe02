"""Labels as other tools write them, all turned into the same tables by `described.open_described`.

Each module reads one tool's files and yields `described.ImageLabels`; `registry` says which one a file is.
Libraries convert some of these formats, but drop what they cannot use without naming the row; here every row
that is not taken as written enters the ledger.
"""

"""What we look at: any source of pictures and labels as two tables and a ledger in which every file stands once."""

from datasets.errors import EnvironmentProblem, InputError
from datasets.source import locate, open_source
from datasets.tables import Source

__all__ = ["EnvironmentProblem", "InputError", "Source", "locate", "open_source"]

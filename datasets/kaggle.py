"""Kaggle datasets by handle. The only file that imports kagglehub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from datasets.errors import EnvironmentProblem, InputError

PREFIX = "kaggle:"
HANDLE = re.compile(r"^[\w-]+/[\w.-]+(/versions/\d+)?$")
# HTTP status -> what it means here and what to do.
ANSWERS = {
    401: "Kaggle does not accept the credentials; put a fresh token into ~/.kaggle/access_token or KAGGLE_API_TOKEN",
    403: "Kaggle refuses access; accept the dataset's terms on its page, and give credentials (~/.kaggle/access_token or KAGGLE_API_TOKEN)",
    404: "Kaggle has no such dataset or version; check the handle on the dataset's page",
    429: "Kaggle asks to slow down; try again in a few minutes",
}


def fetch(spec: str) -> Path:
    """Download "kaggle:owner/dataset[/versions/N]" into data/kaggle (KAGGLEHUB_CACHE if set) and return its folder.

    A version that is there already is not downloaded again. Raises InputError for a malformed or unknown handle, EnvironmentProblem
    without access or network.
    """
    handle = spec.removeprefix(PREFIX)
    if not HANDLE.match(handle):
        raise InputError(f"{spec}: expected kaggle:owner/dataset or kaggle:owner/dataset/versions/3")
    os.environ.setdefault("KAGGLEHUB_CACHE", str(Path("data", "kaggle").absolute()))
    import kagglehub
    from kagglehub.exceptions import KaggleApiHTTPError
    from requests.exceptions import ConnectionError as NoConnection

    try:
        return Path(kagglehub.dataset_download(handle))
    except KaggleApiHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        problem = InputError if status == 404 else EnvironmentProblem
        raise problem(
            f"{spec}: {ANSWERS.get(status, f'Kaggle answered with status {status}; try again later')}"
        ) from None
    except NoConnection:
        raise EnvironmentProblem(
            f"{spec}: no connection to Kaggle; download the dataset elsewhere and give its folder"
        ) from None

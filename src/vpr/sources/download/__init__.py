"""Download sources: ``kaggle://``, ``gdrive://``, ``http(s)://``, ``rsync://`` or ``file://``.

kagglehub handles Kaggle's login and addresses, gdown the confirmation pages and folders of Google Drive. Files are
transferred by our own code on requests, because pooch starts over after an interruption, fsspec leaves resuming to its
caller, and gdown appends to a file that has changed between two runs.
"""

from vpr.sources.download.addresses import check_url, redacted
from vpr.sources.download.cache import Fetched, fetch, fetch_file

__all__ = ["Fetched", "check_url", "fetch", "fetch_file", "redacted"]

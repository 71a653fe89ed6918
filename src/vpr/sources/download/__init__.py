"""Bring a source to the disk: ``kaggle://``, ``gdrive://``, ``http(s)://`` or ``file://``.

Kaggle's login and addresses are kagglehub's, the confirmation pages and folders of Google Drive gdown's. The
transfer is ours, on requests: pooch starts again after a break, fsspec leaves resuming to its caller, and gdown
splices a file that changed between two runs.
"""

from vpr.sources.download.addresses import check_url, redacted
from vpr.sources.download.cache import Fetched, fetch, fetch_file

__all__ = ["Fetched", "check_url", "fetch", "fetch_file", "redacted"]

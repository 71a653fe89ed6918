"""Download ``kaggle://`` sources with kagglehub's login and signed addresses."""

from __future__ import annotations

import json
from pathlib import Path

import requests

from vpr.sources.download.transfer import Transient, raise_for, reason_of, transfer, write_json

KAGGLE_LOGIN = (
    "a Kaggle login: set KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, or save kaggle.json from "
    "https://www.kaggle.com/settings as ~/.kaggle/kaggle.json"
)


def fetch_kaggle(where: str, url: str, folder: Path) -> dict[str, Path]:
    """Download the archive of a dataset into a folder."""
    owner, dataset, *rest = url.partition("://")[2].strip("/").split("/")
    target = folder / f"{dataset}.zip"
    note = folder / "version.json"  # an interrupted download continues with the version it began with
    version = int(rest[1]) if rest else json.loads(note.read_text())["version"] if note.is_file() else None

    def resolve() -> tuple[str, dict[str, str]]:
        """Return the address of the archive, which is signed for a few hours."""
        nonlocal version
        from kagglehub.clients import build_kaggle_client
        from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest, ApiGetDatasetRequest

        try:
            with build_kaggle_client() as client:
                api = client.datasets.dataset_api_client
                if version is None:
                    about = ApiGetDatasetRequest()
                    about.owner_slug, about.dataset_slug = owner, dataset
                    version = api.get_dataset(about).current_version_number
                    folder.mkdir(parents=True, exist_ok=True)
                    write_json(note, {"version": version})
                wanted = ApiDownloadDatasetRequest()
                wanted.owner_slug, wanted.dataset_slug = owner, dataset
                wanted.dataset_version_number = version
                with api.download_dataset(wanted) as response:
                    return str(response.url), {}
        except requests.HTTPError as error:
            if error.response is not None:
                raise_for(where, error.response, url, KAGGLE_LOGIN)
            raise Transient(reason_of(error)) from None
        except requests.RequestException as error:
            raise Transient(reason_of(error)) from None

    return {target.name: transfer(where, url, resolve, target)}

"""An export on the hub."""

import os
from pathlib import Path

from headstart.errors import InputError


class PushError(RuntimeError):
    """An export could not be uploaded; it lies where it was written."""


def check_name(name: str) -> None:
    """Raise `InputError` for what names no repository (`owner/name`)."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"--push takes the name of a repository on the hub, as in owner/name: {reason}") from None
    if "/" not in name:
        raise InputError(f"--push takes the name of a repository on the hub, as in owner/name, but got {name!r}.")


def push(folder: Path, name: str) -> str:
    """Upload a folder to the model repository `name`, made private if it is not there, and give its address.

    Who uploads is whom `hf auth login` knows; where to, HF_ENDPOINT may say.

    Raises:
        PushError: if the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        made = api.create_repo(name, repo_type="model", private=True, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=made.repo_id, commit_message="Export from headstart")
    except Exception as error:  # the client raises all kinds: no network, no rights, no login
        reason = " ".join(str(error).split())[:300]
        raise PushError(f"It could not be uploaded to {name}: {reason}") from error
    return str(made)

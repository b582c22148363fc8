"""A run's adapter on the Hugging Face hub."""

from typing import Any

from lorate.errors import LorateError
from lorate.extras import require
from lorate.runs import RunDirectory
from lorate.training.adapter_files import adapter_folder


def push(path: str, repository: str, *, private: bool = False, api: Any = None) -> str:
    """Upload ``adapter/`` of a run, with its model card, to a repository that is made if it is not there.

    Args:
        path: the run directory.
        repository: its name on the hub, ``owner/name``.
        private: make it private, if it is made.
        api: a ``huggingface_hub.HfApi``; one with the token of this machine if not given.

    Returns:
        The address of the repository.

    Raises:
        LorateError: the run has no adapter or is not finished, there is no connection, or the hub refuses.
    """
    run = RunDirectory.open(path)
    status = run.read_run().get("status")
    if status not in ("finished", "stopped"):
        raise LorateError(f"{run.path} is {status}, so its adapter is not complete; finish it with --resume first.")
    folder = adapter_folder(str(run.path))
    hub: Any = require("huggingface_hub", extra="hf")
    errors: Any = require("huggingface_hub.errors", extra="hf")
    api = api or hub.HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=str(folder),
            commit_message=f"Adapter of {run.path.name}, trained with lorate",
        )
    except errors.HFValidationError as error:
        raise LorateError(f"{repository!r} is not a name for a repository: expected owner/name.") from error
    except errors.HfHubHTTPError as error:
        status_code = getattr(error.response, "status_code", None)
        hint = " log in with: hf auth login" if status_code in (401, 403) else ""
        raise LorateError(f"The hub refuses {repository} (code {status_code});{hint or ' try again later'}.") from error
    except (OSError, RuntimeError) as error:  # httpx and requests raise various ones without a network
        if not isinstance(error, OSError) and "onnect" not in type(error).__name__ + str(error):
            raise
        raise LorateError(
            f"There is no connection to the Hugging Face hub, so {repository} was not changed; try again online, "
            "without HF_HUB_OFFLINE."
        ) from error
    return str(address)

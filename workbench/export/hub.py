"""Pushing an export to the Hugging Face Hub. The token is used for one upload and is in no file, log or sentence."""

from __future__ import annotations

import os
import re
from pathlib import Path

from workbench.errors import UserError
from workbench.progress import Progress

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
PRIVATE = ["pairs.jsonl", "*/pairs.jsonl"]  # training data is not published by the way,
TELLING = ["report.html", "*/report.html"]  # nor are held-out prompts and answers, unless the report was asked for


def check_name(repository: str) -> None:
    """Raises UserError for what cannot be a repository on the Hub."""
    if not HUB_ID.fullmatch(repository):
        raise UserError(f"{repository[:80]!r} is no repository on the Hub: write it as name/repository.")


def push(
    folder: Path, repository: str, token: str | None, private: bool, progress: Progress, with_report: bool = False
) -> None:
    """Upload the folder, without the pairs and, unless ``with_report``, without the report.

    Raises UserError, which never shows the token; before anything is uploaded, if it is to be ``private`` and the
    repository is there already and public."""
    from huggingface_hub import HfApi

    secret = token or os.environ.get("HF_TOKEN")
    progress("push", message=f"Pushing to {repository}")
    try:
        api = HfApi(token=secret)
        api.create_repo(repository, private=private, exist_ok=True)  # of one that exists, private changes nothing
        if private and not api.repo_info(repository).private:
            raise UserError(
                f"{repository} exists already and is public: make it private there, allow it to be public, or choose another name."
            )
        left_out = PRIVATE if with_report else PRIVATE + TELLING
        api.upload_folder(repo_id=repository, folder_path=str(folder), ignore_patterns=left_out)
    except UserError:
        raise
    except Exception as error:  # the client's and the network's errors are many; none may show the token
        reason = str(error).replace(secret, "…") if secret else str(error)
        raise UserError(
            f"Pushing to {repository} failed ({' '.join(reason.split())[:160]}): check the name, the token and the network."
        ) from None

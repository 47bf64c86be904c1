"""A mailbox for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

MAILBOX = "devmail.backend.MailboxBackend"


@pytest.fixture(autouse=True)
def mailbox_dir(settings, tmp_path) -> Path:
    """The directory of the mailbox, which is not there yet."""
    settings.EMAIL_BACKEND = MAILBOX
    settings.MAILBOX_DIR = tmp_path / "var" / "mail"
    return settings.MAILBOX_DIR

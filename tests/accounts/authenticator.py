"""An authenticator app for tests."""

from __future__ import annotations

import time

from accounts import recovery, totp
from accounts.models import User

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def code_now(secret: str = SECRET, later: int = 0) -> str:
    """Return the code of now, or of some steps later."""
    return totp.code_at(secret, int(time.time()) // totp.PERIOD + later)


def give_app(user: User, secret: str = SECRET) -> None:
    """Let the user have an app none of whose codes was used."""
    totp.store(user, secret, 0)


def give_codes(user: User) -> list[str]:
    """Let the user have recovery codes."""
    return recovery.make(user)

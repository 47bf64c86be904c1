"""The rows of an account: the user, its sessions and browsers, second factors, requests, and what is remembered of it.

All of `accounts` imports them from here; each module is one concept.
"""

from accounts.models.events import SecurityEvent
from accounts.models.factors import Passkey, RecoveryCode, Totp
from accounts.models.requests import EmailChange, Export
from accounts.models.sessions import KnownBrowser, Session
from accounts.models.throttles import Throttle
from accounts.models.users import LowercaseEmailField, User, UserManager

__all__ = [
    "EmailChange",
    "Export",
    "KnownBrowser",
    "LowercaseEmailField",
    "Passkey",
    "RecoveryCode",
    "SecurityEvent",
    "Session",
    "Throttle",
    "Totp",
    "User",
    "UserManager",
]

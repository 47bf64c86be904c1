"""The accounts in the administration: users, the log of security events, what is mailed. Django imports it at start."""

from accounts.admin.events import SecurityEventAdmin
from accounts.admin.users import UserAdmin

__all__ = ["SecurityEventAdmin", "UserAdmin"]

"""What every template may use."""

from django.conf import settings
from django.http import HttpRequest


def site(request: HttpRequest) -> dict[str, object]:
    """Return `site_name` and `has_mailbox`, which is true where /dev/mail/ exists."""
    return {"site_name": settings.SITE_NAME, "has_mailbox": settings.DEBUG}

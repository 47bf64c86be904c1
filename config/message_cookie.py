"""Messages for the next page, in a cookie with the name that the settings give it."""

from django.conf import settings
from django.contrib.messages.storage.cookie import CookieStorage
from django.contrib.messages.storage.fallback import FallbackStorage
from django.contrib.messages.storage.session import SessionStorage


class MessageCookie(CookieStorage):
    """Django's, whose name cannot be set."""

    cookie_name = settings.MESSAGE_COOKIE_NAME


class MessageStorage(FallbackStorage):
    """Django's: what is too long for the cookie goes into the session."""

    storage_classes = (MessageCookie, SessionStorage)

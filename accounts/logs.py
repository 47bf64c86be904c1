"""Keeps tokens out of the logs: servers log the paths of requests, and a link's path is its key.

They are known by the path before them, also when cut short, and by the shape of a signature, also in a path that is
spelt with escapes ("%2Faccounts%2F", "/accounts/%76erify/").
"""

import logging
import re
from contextlib import suppress

_TOKEN = re.compile(
    r"(/accounts/(?:verify|disown|password-reset|email-change/(?:confirm|undo))/)(?!(?:check-inbox|resend)/)[^/\s\"'?]+"
)
_SIGNATURE = re.compile(r"(:|%3A)[0-9A-Za-z]{5,7}(?::|%3A)[\w-]{43}", re.IGNORECASE)  # as django.core.signing makes it


def redacted(text: str) -> str:
    """Return the text with "[token]" in place of each token."""
    return _SIGNATURE.sub(r"\1[token]", _TOKEN.sub(r"\1[token]", text))


class RedactTokens(logging.Filter):
    """A filter for handlers."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record if it names a link; it is always logged."""
        try:
            message = record.getMessage()
        except Exception:  # arguments that do not fit: the handler reports them, nothing may be raised here
            with suppress(Exception):
                given = f"{record.msg} {record.args!r}"
                if (shown := redacted(given)) != given:  # the report would show it
                    record.msg, record.args = "Arguments do not fit: %s", (shown,)
            return True
        if (shown := redacted(message)) != message:
            record.msg, record.args = shown, ()
        return True

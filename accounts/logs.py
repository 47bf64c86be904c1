"""Keeps tokens out of the logs: servers log the paths of requests, and a link's path is its key."""

import logging
import re
from contextlib import suppress

_TOKEN = re.compile(
    r"(/accounts/(?:verify|disown|password-reset|email-change/(?:confirm|undo))/)(?!(?:check-inbox|resend)/)[^/\s\"'?]+"
)


class RedactTokens(logging.Filter):
    """A filter for handlers."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record if it names a link; it is always logged."""
        try:
            message = record.getMessage()
        except Exception:  # arguments that do not fit: the handler reports them, nothing may be raised here
            with suppress(Exception):
                shown, links = _TOKEN.subn(r"\1[token]", f"{record.msg} {record.args!r}")
                if links:  # the report would show it
                    record.msg, record.args = "Arguments do not fit: %s", (shown,)
            return True
        shown, links = _TOKEN.subn(r"\1[token]", message)
        if links:
            record.msg, record.args = shown, ()
        return True

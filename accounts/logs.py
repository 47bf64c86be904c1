"""Keeps tokens out of the logs: servers log the paths of requests, and a link's path is its key."""

import logging
import re

_TOKEN = re.compile(r"(/accounts/verify/)[^/\s\"'?]+")


class RedactTokens(logging.Filter):
    """A filter for handlers."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record if it names a link; it is always logged."""
        try:
            message = record.getMessage()
        except Exception:  # arguments that do not fit: the handler reports that, nothing may be raised here
            return True
        if "/accounts/verify/" in message:
            record.msg, record.args = _TOKEN.sub(r"\1[token]", message), ()
        return True

#!/usr/bin/env python
"""Django's command line, with one clear line instead of a traceback where the mistake is in the set-up."""

import os
import sys

NO_SUCH_TABLE = "42P01"  # PostgreSQL, Appendix A


def main(argv: list[str]) -> None:
    """Run one command; exit 1 with one line if a setting is wrong or the database cannot be used."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line
    from django.db import OperationalError, ProgrammingError

    try:
        execute_from_command_line(argv)
    except (ImproperlyConfigured, OperationalError, ProgrammingError) as error:
        text = str(error).strip().split("\n")[0]
        if "--traceback" in argv:
            raise
        if isinstance(error, ImproperlyConfigured):
            sys.exit(f"error: {text}")
        if text.startswith("no such table") or getattr(error.__cause__, "sqlstate", "") == NO_SUCH_TABLE:
            sys.exit(f"error: the database is not set up: {text}. Run: manage.py migrate")
        # a driver's own error, such as an option in DATABASE_URL that it does not know, has no SQLSTATE
        if isinstance(error, OperationalError) or getattr(error.__cause__, "sqlstate", "none") is None:
            sys.exit(f"error: the database cannot be used: {text} (check DATABASE_URL; --traceback shows more)")
        raise


if __name__ == "__main__":
    main(sys.argv)

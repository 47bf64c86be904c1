#!/usr/bin/env python
"""Django's command line, with one clear line instead of a traceback where the mistake is in the set-up."""

import os
import sys


def main(argv: list[str]) -> None:
    """Run one command; exit 1 with one line if a setting is wrong or the database cannot be reached."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line
    from django.db import OperationalError

    try:
        execute_from_command_line(argv)
    except ImproperlyConfigured as error:
        if "--traceback" in argv:
            raise
        sys.exit(f"error: {error}")
    except OperationalError as error:
        if "--traceback" in argv:
            raise
        reason = str(error).strip().splitlines()[0]
        sys.exit(f"error: the database cannot be used: {reason} (check DATABASE_URL; --traceback shows more)")


if __name__ == "__main__":
    main(sys.argv)

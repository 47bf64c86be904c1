"""`manage.py firstrun`: what `make run` does before it starts the site and the cluster."""

import errno
import secrets
import socket
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError, call_command
from django.db.models import Q

from accounts.models import User

ADMINISTRATOR = "admin@example.com"


class Command(BaseCommand):
    """Safe to run each time."""

    help = "Migrate the database, make the first administrator (with DEBUG), check the port, print the addresses."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --port."""
        parser.add_argument("--port", type=int, default=8000, help="where the site will listen on 127.0.0.1")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it all."""
        port = options["port"]
        if not 1 <= port <= 65535:
            raise CommandError(f"PORT is {port}. Allowed: 1 to 65535.")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                reason = (
                    "is taken by another program" if error.errno == errno.EADDRINUSE else f"cannot be used: {error}"
                )
                raise CommandError(f"Port {port} {reason}. Choose another: make run PORT={port % 65535 + 1}") from None
        call_command("migrate", verbosity=0, interactive=False)
        site = f"http://127.0.0.1:{port}"
        addresses = {"Site": f"{site}/", "Administration": f"{site}/admin/"}
        if settings.DEBUG:
            addresses["Mails sent"] = f"{site}/dev/mail/"
        for name, address in addresses.items():
            self.stdout.write(f"  {name + ':':<16}{address}")
        first = Q(is_superuser=True) | Q(email=ADMINISTRATOR)
        if settings.DEBUG and not User.objects.filter(first).exists():
            password = secrets.token_urlsafe(12)
            user = User.objects.create_superuser(ADMINISTRATOR, password, display_name="Admin")
            self.stdout.write(f"  {'Administrator:':<16}{user.email}   password: {password}   (shown once)")
        self.stdout.write("  Ctrl-C stops both.\n")

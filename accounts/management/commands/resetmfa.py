"""`manage.py resetmfa EMAIL`: the way back for an administrator who has lost device and recovery codes."""

from argparse import ArgumentParser
from typing import Any

from django.core.management import BaseCommand, CommandError

from accounts import factors
from accounts.models import User


class Command(BaseCommand):
    """Whoever may run it has the database anyway."""

    help = "Remove all second factors and recovery codes of a user, end the sessions and tell the user by mail."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the address."""
        parser.add_argument("email", help="the address of the account")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it."""
        user = User.objects.filter(email=options["email"]).first()
        if user is None:
            raise CommandError(f"There is no account with the address {options['email']}.")
        if not factors.remove_all(user):
            raise CommandError(f"{user.email} has no second factor.")
        self.stdout.write(f"Removed. {user.email} now logs in with the password alone, and gets a mail about it.")

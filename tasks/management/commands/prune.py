"""`manage.py prune`: delete the rows whose retention is over, of all tables or of one."""

from argparse import ArgumentParser
from typing import Any

from django.core.management import BaseCommand, CommandError
from django.db import connection
from django.db.models import Count

from tasks.cleanup import gives_space_back, prune, rewrite
from tasks.retention import Table, pruned_tables, tables

KEEPS_SPACE = (
    "The database file does not shrink by what is pruned: it was made without auto_vacuum. To change that, stop the "
    "site and the cluster and run once: manage.py prune --vacuum"
)


class Command(BaseCommand):
    """Does what the scheduled task does, without its limit of time."""

    help = "Delete the rows whose retention is over. Pruned tasks stay counted in taskstats and tasksaudit."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the table, --dry-run and --vacuum."""
        parser.add_argument("table", nargs="?", metavar="TABLE", help=f"one of {', '.join(_known())}; default: all")
        parser.add_argument("--dry-run", action="store_true", help="say what would go, and delete nothing")
        parser.add_argument(
            "--vacuum",
            action="store_true",
            help="SQLite: write the file anew, so that it can shrink; locks it meanwhile",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Say or do."""
        known, name = _known(), options["table"]
        if name in tables and tables[name].goes_with:
            raise CommandError(f"Rows of {name} go with those of {tables[name].goes_with}. Prune these.")
        if name is not None and name not in known:
            raise CommandError(f"There is no table {name!r} to prune. Known: {', '.join(known)}.")
        for table in known.values() if name is None else [known[name]]:
            if options["dry_run"]:
                self.preview(table)
            else:
                self.stdout.write(f"{table.name}: {prune(table, seconds=float('inf')).pruned} pruned.")
        if options["vacuum"] and not options["dry_run"] and connection.vendor == "sqlite":
            rewrite()
        if not gives_space_back():
            self.stdout.write(KEEPS_SPACE)

    def preview(self, table: Table) -> None:
        """Say what would go."""
        oldest = table.oldest_row()
        since = f"{oldest:%Y-%m-%d %H:%M %Z}" if oldest else "–"
        self.stdout.write(f"{table.name:<24}{table.expired().count():>10} to go, oldest row of {since}")
        if table.groups:
            for row in table.expired().values_list(*table.groups).annotate(Count("pk")).order_by(*table.groups):
                self.stdout.write(f"    {' '.join(map(str, row[:-1])):<20}{row[-1]:>10}")


def _known() -> dict[str, Table]:
    return {table.name: table for table in pruned_tables()}

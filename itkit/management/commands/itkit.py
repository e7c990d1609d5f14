"""``manage.py itkit``: what a project needs of the isolation, and what itkit keeps."""

from collections.abc import Iterable
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from itkit import cleaning, conf, doctor
from itkit.exceptions import ItkitError


class Command(BaseCommand):
    """``doctor`` looks at the project, ``clean`` at the server and the cache."""

    help = "Looks at what a project needs of itkit, and removes what itkit keeps."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the sub-commands."""
        commands = parser.add_subparsers(dest="subcommand", required=True)
        doctor_parser = commands.add_parser(
            "doctor", help="Find what a schema for each worker does not keep apart."
        )
        doctor_parser.set_defaults(run=self._doctor)
        clean_parser = commands.add_parser(
            "clean", help="Remove what runs have left on your server, and the cache."
        )
        clean_parser.add_argument(
            "--dry-run", action="store_true", help="Show it and remove nothing."
        )
        clean_parser.set_defaults(run=self._clean)

    def handle(self, *_: Any, **options: Any) -> None:
        """Run a sub-command."""
        try:
            options["run"](options)
        except ItkitError as error:
            raise CommandError(str(error)) from error

    def _doctor(self, options: dict[str, Any]) -> None:
        del options
        isolation = conf.get().postgres.isolation
        found = doctor.relevant(doctor.findings(), isolation)
        for finding in found:
            self.stdout.write(str(finding))
        verdict = doctor.verdict(found, isolation)
        if found:
            raise CommandError(verdict)
        self.stdout.write(verdict)

    def _clean(self, options: dict[str, Any]) -> None:
        dry_run = options["dry_run"]
        is_any = self._show(cleaning.clean_cache(dry_run=dry_run))
        server = cleaning.server()
        if server is None:
            self.stdout.write("No Postgres of yours answers, so none is looked at.")
        else:
            is_any |= self._show(cleaning.clean_server(server, dry_run=dry_run))
        if not is_any:
            self.stdout.write("Nothing of itkit's is kept.")

    def _show(self, lines: Iterable[cleaning.Line]) -> bool:
        """Write each line as soon as it is known; return whether there was any."""
        is_any = False
        for line in lines:
            self.stdout.write(str(line))
            is_any = True
        return is_any

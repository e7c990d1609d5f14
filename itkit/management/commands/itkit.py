"""``manage.py itkit``: what a project needs of the isolation, its factories, what itkit keeps."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from django.core.management.base import BaseCommand, CommandError, CommandParser

from itkit import cleaning, conf, doctor
from itkit.exceptions import ItkitError

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH_OF_LOGS: Final = 160


class Command(BaseCommand):
    """``doctor`` and ``factories`` look at a project, ``seed`` and ``clean`` at what it keeps."""

    help = "Looks at a project's needs and factories, fills a database, removes what itkit keeps."
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
        self._add_data_commands(commands)

    def _add_data_commands(self, commands: Any) -> None:
        seed_parser = commands.add_parser(
            "seed", help="Make the rows of a scenario in a database of yours; they stay."
        )
        seed_parser.add_argument("scenario", help="Its name, with or without its app.")
        seed_parser.add_argument("--scale", type=int, default=1, help="How many times; 1.")
        seed_parser.add_argument("--database", default="default", help="The alias; default.")
        seed_parser.add_argument("--seed", help="What random values come from; new ones each time.")
        seed_parser.add_argument("--force", action="store_true", help="Even if it is production.")
        seed_parser.set_defaults(run=self._seed)
        factories_parser = commands.add_parser("factories", help="Look at the factories.")
        kinds = factories_parser.add_subparsers(dest="look", required=True)
        lint_parser = kinds.add_parser(
            "lint", help="Try each factory and trait: twice, validated, and in bulk."
        )
        lint_parser.set_defaults(run=self._lint)
        profile_parser = kinds.add_parser(
            "profile", help="Run tests with --integration, and show what their factories cost."
        )
        profile_parser.add_argument("labels", nargs="*", help="Tests; by default all.")
        profile_parser.set_defaults(run=self._profile)

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

    def _seed(self, options: dict[str, Any]) -> None:
        from itkit import bench  # imports the ORM's test runner, as below

        made = bench.plant(
            options["scenario"],
            options["database"],
            scale=options["scale"],
            seed_text=options["seed"],
            force=options["force"],
        )
        for label, count in sorted(made.items()):
            self.stdout.write(f"{count:>9} {label}")

    def _lint(self, options: dict[str, Any]) -> None:
        from itkit import bench

        del options
        found = bench.lint()
        self._print(bench.lint_table(found))
        wrong = [verdict for verdict in found if verdict.problems]
        if wrong:
            raise CommandError(f"{len(wrong)} of {len(found)} have problems.")

    def _profile(self, options: dict[str, Any]) -> None:
        from itkit import bench

        found, code = bench.profile(options["labels"])
        self._print(bench.profile_table(found))
        sys.exit(code)

    def _print(self, table: "Table") -> None:
        from rich.console import Console

        # A pipe or a log has no width, so nothing is cut to one.
        width = None if self.stdout.isatty() else _WIDTH_OF_LOGS
        Console(file=cast("TextIO", self.stdout), width=width).print(table)

    def _show(self, lines: Iterable[cleaning.Line]) -> bool:
        """Write each line as soon as it is known; return whether there was any."""
        is_any = False
        for line in lines:
            self.stdout.write(str(line))
            is_any = True
        return is_any

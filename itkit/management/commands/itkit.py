"""``manage.py itkit``: checks a project's isolation and factories, and manages what itkit keeps."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from itkit import conf, postgres, report
from itkit.core import names
from itkit.environment import child, running
from itkit.exceptions import ItkitError
from itkit.management import clean, doctor
from itkit.report import coverage

if TYPE_CHECKING:
    from rich.table import Table

_ISOLATION: Final = "ITKIT_POSTGRES_ISOLATION"
_WIDTH_OF_LOGS: Final = 160


class Command(BaseCommand):
    """Checks a project, fills a database with a scenario, and manages runs and what they keep."""

    help = "Looks at a project's needs and factories, fills a database, removes what itkit keeps."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the sub-commands."""
        commands = parser.add_subparsers(dest="subcommand", required=True)
        doctor_parser = commands.add_parser(
            "doctor", help="Find what a schema for each worker does not isolate."
        )
        doctor_parser.add_argument(
            "--no-database",
            action="store_false",
            dest="database",
            help="Look at the text only: start no server, and run no migrations.",
        )
        doctor_parser.set_defaults(run=self._doctor)
        clean_parser = commands.add_parser(
            "clean",
            help="Let stopped runs continue; remove the cache, and what runs keep on your server.",
        )
        clean_parser.add_argument(
            "--dry-run", action="store_true", help="Show it and remove nothing."
        )
        clean_parser.set_defaults(run=self._clean)
        self._add_shells(commands)
        self._add_coverage(commands)
        self._add_report(commands)
        self._add_data_commands(commands)

    def _add_shells(self, commands: Any) -> None:
        worker = "Which worker to join: its name, such as gw1, or its process."
        shell_parser = commands.add_parser(
            "shell", help="Join a test that waits, because of --itkit-keep or --pdb."
        )
        shell_parser.add_argument("--worker", help=worker)
        shell_parser.add_argument("-c", "--command", help="Run this instead of a shell.")
        shell_parser.set_defaults(run=self._shell)
        dbshell_parser = commands.add_parser(
            "dbshell", help="Open psql in the schema or database of such a test."
        )
        dbshell_parser.add_argument("--worker", help=worker)
        dbshell_parser.add_argument("--database", default="default", help="The alias; default.")
        dbshell_parser.add_argument(
            "parameters", nargs=argparse.REMAINDER, help="Options of psql, after all others."
        )
        dbshell_parser.set_defaults(run=self._dbshell)

    def _add_coverage(self, commands: Any) -> None:
        coverage_parser = commands.add_parser(
            "coverage", help="Look at what runs with --itkit-coverage have seen."
        )
        looks = coverage_parser.add_subparsers(dest="look", required=True)
        usual = conf.get().report.coverage
        show_parser = looks.add_parser("show", help="Print what no test has seen.")
        show_parser.add_argument("file", nargs="?", default=usual, help=f"By default {usual}/.")
        show_parser.set_defaults(run=self._show_coverage)
        merge_parser = looks.add_parser("merge", help="Make one of those of several shards.")
        merge_parser.add_argument("files", nargs="+", help="Files or directories of shards.")
        merge_parser.add_argument("--to", default=usual, help=f"A directory; by default {usual}/.")
        merge_parser.add_argument("--min", type=float, help="Fail below this percentage.")
        merge_parser.set_defaults(run=self._merge_coverage)
        diff_parser = looks.add_parser("diff", help="Compare two; fail where the new one is worse.")
        diff_parser.add_argument("old", help="A file or directory.")
        diff_parser.add_argument("new", nargs="?", default=usual, help=f"By default {usual}/.")
        diff_parser.set_defaults(run=self._diff_coverage)

    def _add_report(self, commands: Any) -> None:
        report_parser = commands.add_parser(
            "report", help="Put reports of several shards together."
        )
        looks = report_parser.add_subparsers(dest="look", required=True)
        merge_parser = looks.add_parser("merge", help="Make one of those of several shards.")
        merge_parser.add_argument("directories", nargs="+", help="Those of the shards.")
        merge_parser.add_argument(
            "--to",
            default=names.REPORT_DIRECTORY,
            help=f"Another directory, which is emptied; by default {names.REPORT_DIRECTORY}/.",
        )
        merge_parser.set_defaults(run=self._merge_reports)

    def _merge_reports(self, options: dict[str, Any]) -> None:
        to = Path(options["to"])
        shards = [Path(directory) for directory in options["directories"]]
        if to.absolute() in [shard.absolute() for shard in shards]:
            raise CommandError(f"{to} is one of the reports: name another directory, --to=DIR.")
        folder = report.Folder(to)
        folder.prepare()
        pages = sum(folder.merge(shard) for shard in shards)
        self.stdout.write(f"{pages} pages in {(to / 'index.html').absolute().as_uri()}")

    def _show_coverage(self, options: dict[str, Any]) -> None:
        for line in coverage.Coverage.read(Path(options["file"])).lines(most=None):
            self.stdout.write(line)

    def _merge_coverage(self, options: dict[str, Any]) -> None:
        merged = coverage.Coverage()
        for file in options["files"]:
            merged.merge(coverage.Coverage.read(Path(file)))
        directory = Path(options["to"])
        coverage.prepare(directory)
        merged.write(directory)
        for line in merged.lines():
            self.stdout.write(line)
        if options["min"] is not None and merged.percent < options["min"]:
            raise CommandError(
                f"boundary coverage of {merged.percent} % is less than {options['min']} %"
            )

    def _diff_coverage(self, options: dict[str, Any]) -> None:
        old, new = (coverage.Coverage.read(Path(options[name])) for name in ("old", "new"))
        worse, otherwise = coverage.differences(old, new)
        self.stdout.write(f"itkit: boundary coverage {old.percent} % before, {new.percent} % now")
        for line in [*worse, *otherwise]:
            self.stdout.write(line)
        if worse:
            raise CommandError(f"{len(worse)} worse than in {options['old']}")

    def _add_data_commands(self, commands: Any) -> None:
        seed_parser = commands.add_parser(
            "seed", help="Make the rows of a scenario in a database of yours; they stay."
        )
        seed_parser.add_argument(
            "scenario", help="The name of the scenario, with or without its app."
        )
        seed_parser.add_argument("--scale", type=int, default=1, help="How many times; 1.")
        seed_parser.add_argument("--database", default="default", help="The alias; default.")
        seed_parser.add_argument("--seed", help="The seed of random values; by default a new one.")
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
        postgres.replace_sqlite()
        isolation = conf.get().postgres.isolation
        found = doctor.findings()
        if isolation == "schema" and options["database"] and postgres.postgres_aliases():
            found += self._findings_in_databases(found)
        found = doctor.relevant(found, isolation)
        for finding in found:
            self.stdout.write(str(finding))
        faults = [finding for finding in found if not finding.is_hint]
        verdict = doctor.verdict(faults, isolation)
        if faults:
            raise CommandError(verdict)
        self.stdout.write(verdict)

    def _findings_in_databases(self, known: list[doctor.Finding]) -> list[doctor.Finding]:
        """Return what schemas would not isolate, from databases that are migrated for this."""
        from itkit.management import factories

        os.environ[_ISOLATION] = "database"
        conf.get.cache_clear()
        try:
            with factories.migrated_databases():
                return doctor.findings_in_databases(known)
        except ItkitError as error:
            self.stderr.write(f"No migrated database was looked at, as there is none: {error}")
            return []
        finally:
            del os.environ[_ISOLATION]
            conf.get.cache_clear()

    def _shell(self, options: dict[str, Any]) -> None:
        self._join(options["worker"])
        call_command("shell", command=options["command"])

    def _dbshell(self, options: dict[str, Any]) -> None:
        self._join(options["worker"])
        parameters = [text for text in options["parameters"] if text != "--"]
        call_command("dbshell", "--", *parameters, database=options["database"])

    def _join(self, worker: str | None) -> None:
        """Let this process join the test that runs in another terminal."""
        runs = running.found()
        found = [one for one in runs if worker in {None, one.worker, str(one.process)}]
        if len(found) != 1:
            raise CommandError(_none_to_join(runs, found, worker))
        running.invite(found[0])
        child.join()

    def _clean(self, options: dict[str, Any]) -> None:
        postgres.replace_sqlite()
        dry_run = options["dry_run"]
        is_any = self._show(clean.let_go(dry_run=dry_run))
        is_any |= self._show(clean.clean_cache(dry_run=dry_run))
        server = clean.server()
        if server is None:
            self.stdout.write("No Postgres of yours answers, so none is looked at.")
        else:
            is_any |= self._show(clean.clean_server(server, dry_run=dry_run))
        if not is_any:
            self.stdout.write("Nothing of itkit's is kept.")

    def _seed(self, options: dict[str, Any]) -> None:
        from itkit.management import factories  # imports Django's test runner, as below

        made = factories.plant(
            options["scenario"],
            options["database"],
            scale=options["scale"],
            seed_text=options["seed"],
            force=options["force"],
        )
        for label, count in sorted(made.items()):
            self.stdout.write(f"{count:>9} {label}")

    def _lint(self, options: dict[str, Any]) -> None:
        from itkit.management import factories

        del options
        found = factories.lint()
        self._print(factories.lint_table(found))
        wrong = [verdict for verdict in found if verdict.problems]
        if wrong:
            have = "has" if len(wrong) == 1 else "have"
            raise CommandError(f"{len(wrong)} of {len(found)} {have} problems.")

    def _profile(self, options: dict[str, Any]) -> None:
        from itkit.management import factories

        found, code = factories.profile(options["labels"])
        self._print(factories.profile_table(found))
        sys.exit(code)

    def _print(self, table: "Table") -> None:
        from rich.console import Console

        # A pipe or a log has no width, so lines are not cut.
        width = None if self.stdout.isatty() else _WIDTH_OF_LOGS
        Console(file=cast("TextIO", self.stdout), width=width).print(table)

    def _show(self, lines: Iterable[object]) -> bool:
        """Write each line at once; return whether there were any."""
        is_any = False
        for line in lines:
            self.stdout.write(str(line))
            is_any = True
        return is_any


def _none_to_join(
    runs: Sequence[running.Running], found: Sequence[running.Running], worker: str | None
) -> str:
    """Return why no test is joined, and what to type instead.

    Args:
        runs: all processes that run tests of the project.
        found: those that are meant: none or several.
        worker: what the command line says.
    """
    if not runs:
        return (
            "No run of this project's tests is under way. Let a test wait: --integration"
            " --itkit-keep, or breakpoint() in the test."
        )
    meant = found or runs
    names = Counter(one.worker for one in meant)
    lines = [
        f"\n  --worker {one.worker}: process {one.process}"
        if names[one.worker] == 1
        else f"\n  --worker {one.process}: {one.worker}"
        for one in meant
    ]
    no_such = f"No worker {worker!r} runs tests of this project; there " if not found else "There "
    return f"{no_such}{'is' if len(meant) == 1 else 'are several'}:{''.join(lines)}"

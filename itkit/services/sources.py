"""The sources from which a server may come, in the order in which they are tried."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from itkit.core import urls
from itkit.core.text import first_line
from itkit.exceptions import ConfigurationError, IsolationError, ServiceUnavailableError
from itkit.services.errors import RefusedError, SearchEndedError, SearchError, SourceUnusableError
from itkit.services.need import Kind, LabelledUrl, Need
from itkit.services.programs import binaries, postgres_server, valkey_server
from itkit.services.refusals import refusal
from itkit.services.run import Launched, Options, ServerRun
from itkit.services.service import Service, Services
from itkit.services.supervisor import ServerProgram

_GIVEN_TIMEOUT: Final = 5.0
_PROJECT_TIMEOUT: Final = 1.0
_SOURCE_VARIABLE: Final = "ITKIT_SOURCE"

Found = tuple[Service, ServerProgram | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recipe:
    """The way to find and start one kind of server."""

    title: str
    schemes: tuple[str, ...]
    embedded: Callable[[], Path]
    system: Callable[[], Sequence[Path]]
    binary: Callable[[Path], Path]
    launch: Callable[[Path, ServerRun], Launched]
    url_variable: str
    binary_variable: str
    example: str


_RECIPES: Final[Mapping[Kind, _Recipe]] = {
    "postgres": _Recipe(
        title="Postgres",
        schemes=urls.POSTGRES_SCHEMES,
        embedded=binaries.embedded_postgres,
        system=binaries.system_postgres,
        binary=binaries.postgres_directory,
        launch=postgres_server.launch,
        url_variable="ITKIT_POSTGRES_URL",
        binary_variable="ITKIT_POSTGRES_BIN",
        example="postgresql://user:password@localhost:5432/postgres",
    ),
    "redis": _Recipe(
        title="Redis",
        schemes=urls.REDIS_SCHEMES,
        embedded=binaries.embedded_valkey,
        system=binaries.system_redis,
        binary=binaries.redis_binary,
        launch=valkey_server.launch,
        url_variable="ITKIT_REDIS_URL",
        binary_variable="ITKIT_REDIS_BIN",
        example="redis://localhost:6379/0",
    ),
}


def find(need: Need, run: ServerRun) -> Found:
    """Find or start the server of one kind.

    Raises:
        ServiceUnavailableError: no server was found, and the message has every source with its
            reason; or the server that the user gave does not answer.
    """
    return _SourceSearch(need, run).find()


class _SourceSearch:
    """The search for one server: tries one source after the other, and keeps the reasons."""

    def __init__(self, need: Need, run: ServerRun) -> None:
        self._need = need
        self._run = run
        self._recipe = _RECIPES[need.kind]
        self._begin = time.perf_counter()
        self._failed: dict[str, SearchError] = {}

    def find(self) -> Found:
        if self._need.given:
            return self._use_given(self._need.given)
        if self._need.binary and self._run.options.source in {"auto", "system"}:
            return self._start_given_binary(self._need.binary)
        return self._use_first_source()

    def _use_given(self, given: LabelledUrl) -> Found:
        try:
            return self._use_running(given, _GIVEN_TIMEOUT)
        except RefusedError as error:
            helps = [*error.remedies, f"remove {given[0]}, so that itkit looks for another server"]
            listed = "\n".join(f"  {remedy}" for remedy in helps)
            raise ServiceUnavailableError(
                f"The {self._recipe.title} that {given[0]} names {error}. itkit uses no other "
                f"server when one is given. Any one of these helps:\n{listed}"
            ) from error
        except SourceUnusableError as error:
            raise ServiceUnavailableError(
                f"The {self._recipe.title} that {given[0]} names {error}. itkit uses no other "
                f"server when one is given: start it, or correct or remove {given[0]}."
            ) from error

    def _start_given_binary(self, binary: str) -> Found:
        setting = f'ITKIT["{self._need.kind.upper()}"]["BIN"] ({self._recipe.binary_variable})'
        try:
            return self._start(self._recipe.binary(Path(binary).absolute()), "system")
        except SearchError as error:
            remedies = " or ".join(error.remedies) or f"correct or remove {setting}"
            raise ServiceUnavailableError(
                f"{self._recipe.title} cannot be started from {binary}: {error}\n"
                f"itkit uses no other when one is given; this helps: {remedies}."
            ) from error

    def _use_first_source(self) -> Found:
        for name, use in self._sources().items():
            try:
                self._require_worth_trying(name)
                return use()
            except SearchError as error:
                self._failed[name] = error
        raise ServiceUnavailableError(self._nothing_found())

    def _require_worth_trying(self, source: str) -> None:
        if self._run.options.source not in {"auto", source}:
            raise _left_out(self._run.options.source)
        if any(isinstance(error, SearchEndedError) for error in self._failed.values()):
            raise SourceUnusableError("not tried, as the reason holds for all sources")

    def _sources(self) -> Mapping[str, Callable[[], Found]]:
        return {
            "settings": self._use_project,
            "embedded": self._start_embedded,
            "system": self._start_system,
        }

    def _use_project(self) -> Found:
        if self._need.project is None:
            raise SourceUnusableError(f"the project's settings name no {self._recipe.title}")
        label, url = self._need.project
        server = self._parse(url)
        if not (server.is_local or self._need.allow_remote):
            raise RefusedError(
                f"{label} is on another machine, {server.address}, which is used only with "
                f'ITKIT["{self._need.kind.upper()}"]["ALLOW_REMOTE"] = True'
            )
        try:
            return self._use_running(self._need.project, _PROJECT_TIMEOUT)
        except SourceUnusableError as error:
            raise type(error)(f"{label} {error}", *error.remedies) from error

    def _start_embedded(self) -> Found:
        return self._start(self._recipe.embedded(), "embedded")

    def _start_system(self) -> Found:
        reasons = []
        for binary in self._recipe.system():
            try:
                return self._start(binary, "system")
            except SourceUnusableError as error:
                reasons.append(str(error))
        raise SourceUnusableError("; ".join(reasons))

    def _use_running(self, named: LabelledUrl, timeout: float) -> Found:
        label, url = named
        server = self._parse(url)
        try:
            product = self._need.probe(url, timeout)
        except IsolationError as error:
            reason = f"({server.address}) cannot be used: {_reason(error)}"
            raise RefusedError(reason, *str(error).splitlines()[1:]) from error
        except Exception as error:  # any error of the client means that there is no answer
            # Our own error only repeats what this message says; its cause has the reason.
            cause = error.__cause__ if isinstance(error, ServiceUnavailableError) else None
            refused = refusal(self._need.kind, str(cause or error), server)
            if refused:
                said = f"{refused[0]} ({_reason(cause or error)})"
                raise RefusedError(
                    f"({server.address}) cannot be used: {said}", *refused[1:]
                ) from error
            raise SourceUnusableError(
                f"({server.address}) does not answer: {_reason(cause or error)}",
                f"a {self._recipe.title} that answers at {server.address}",
            ) from error
        return self._service(url, product, label, server.address, started=False), None

    def _start(self, binary: Path, source: str) -> Found:
        try:
            launched = self._recipe.launch(binary, self._run)
        except OSError as error:
            raise SourceUnusableError(f"{binary} cannot be started: {error}") from error
        service = self._service(
            launched.url, launched.product, source, launched.address, started=True
        )
        return replace(service, state=launched.state), launched.program

    def _service(
        self, url: str, product: str, source: str, address: str, *, started: bool
    ) -> Service:
        return Service(
            kind=self._need.kind,
            url=url,
            product=product,
            source=source,
            address=address,
            milliseconds=round((time.perf_counter() - self._begin) * 1000),
            started=started,
            passed_over=tuple(
                str(error) for error in self._failed.values() if isinstance(error, RefusedError)
            ),
        )

    def _parse(self, url: str) -> urls.ServerURL:
        try:
            return urls.parse(url, self._recipe.schemes)
        except ConfigurationError as error:
            reason = f"has a URL that cannot be used: {_reason(error)}"
            raise SourceUnusableError(reason) from error

    def _nothing_found(self) -> str:
        recipe = self._recipe
        remedies = [remedy for error in self._failed.values() for remedy in error.remedies]
        remedies.append(f"{recipe.url_variable}={recipe.example}, the URL of a server that runs")
        return "\n".join(
            [
                f"No {recipe.title} can be found or started for the tests. What was tried:",
                *(f"  {name}: {error}" for name, error in self._failed.items()),
                "Any one of these helps:",
                *(f"  {remedy}" for remedy in dict.fromkeys(remedies)),
            ]
        )


def _left_out(allowed: str) -> SourceUnusableError:
    if _SOURCE_VARIABLE in os.environ:  # it overrides the setting
        choice, undo = f"{_SOURCE_VARIABLE}={allowed}", f"unset {_SOURCE_VARIABLE}"
    else:
        choice, undo = f'ITKIT["SOURCE"] = {allowed!r}', 'remove ITKIT["SOURCE"]'
    return SourceUnusableError(f"left out by {choice}", f"{undo}, so that all sources are tried")


def _reason(error: BaseException) -> str:
    """Return the useful part of a client's message, as a part of a sentence."""
    return urls.redact(first_line(error).rstrip("."))


_KINDS: Final = 2


def start(needs: Iterable[Need], options: Options) -> Services:
    """Find or start all servers that are needed, at the same time.

    Args:
        needs: The needs, at most one of each kind. An iterator continues while the first server
            starts.
        options: The options for all servers.

    The servers run until :meth:`Services.stop`, or until this process ends.

    Raises:
        ServiceUnavailableError: a server can neither be found nor started. The message has every
            source with the reason why it was not used. Servers that were started are stopped.
    """
    run = ServerRun(options)
    with ThreadPoolExecutor(max_workers=_KINDS) as pool:
        try:
            futures = [pool.submit(find, need, run) for need in needs]
            wait(futures)
            return Services(dict(_results(futures)), run)
        except BaseException:
            run.stop()  # before the pool waits for its threads: it ends what they wait for
            raise


def _results(futures: Sequence[Future[Found]]) -> list[Found]:
    errors = [error for future in futures if (error := future.exception()) is not None]
    unavailable = [error for error in errors if isinstance(error, ServiceUnavailableError)]
    if len(unavailable) > 1:
        raise ServiceUnavailableError("\n\n".join(dict.fromkeys(map(str, unavailable))))
    return [future.result() for future in futures]

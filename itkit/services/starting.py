"""Start all servers of a run, side by side."""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final

from itkit.exceptions import ServiceUnavailableError
from itkit.services.need import Need
from itkit.services.run import Options, Run
from itkit.services.service import Services
from itkit.services.sources import Found, find

_KINDS: Final = 2


def start(needs: Iterable[Need], options: Options) -> Services:
    """Find or start all servers that are needed, at the same time.

    Args:
        needs: One of each kind at most. An iterator goes on while the first server starts.
        options: For all of them.

    What was started runs until :meth:`Services.stop`, or until this process is gone.

    Raises:
        ServiceUnavailableError: a server can neither be found nor started. The message has every
            source and why it was not used. Nothing that was started is left.
    """
    run = Run(options)
    with ThreadPoolExecutor(max_workers=_KINDS) as pool:
        try:
            futures = [pool.submit(find, need, run) for need in needs]
            wait(futures)
            return Services(dict(_results(futures)), run)
        except BaseException:
            run.stop()  # before the pool waits for its threads: it ends whatever they wait for
            raise


def _results(futures: Sequence[Future[Found]]) -> list[Found]:
    errors = [error for future in futures if (error := future.exception()) is not None]
    unavailable = [error for error in errors if isinstance(error, ServiceUnavailableError)]
    if len(unavailable) > 1:
        raise ServiceUnavailableError("\n\n".join(dict.fromkeys(map(str, unavailable))))
    return [future.result() for future in futures]

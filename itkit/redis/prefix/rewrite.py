"""Rewrites commands for the current namespace, or refuses them."""

from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from typing import Any

from itkit.exceptions import EscapeError
from itkit.redis import crossings, policy
from itkit.redis.crossings import WRITES, Record, RedisCommand
from itkit.redis.keyspecs import word
from itkit.redis.prefix import plans
from itkit.redis.prefix.namespace import (
    Arguments,
    Expected,
    Namespace,
    NoNamespace,
    Plan,
    Rewritten,
)
from itkit.timeline import core


class Rewriter:
    """Puts the prefix on every key and channel of a command.

    Args:
        namespace: the first namespace. To begin a new generation, the attribute is replaced, which
            all threads see at once.
        owned: whether the server is thrown away after the run.
        login: the user and the password of all connections, whatever login they send.
        limited: whether that login reaches the worker's keys only.
        ask: returns the plan of a command that is in no table, given its name and first argument;
            returns None to refuse it.
        listed: the commands of ``ALLOW_COMMANDS``, which are let through although they reach
            further.

    Attributes:
        used: the namespace of the command that was rewritten last.
    """

    def __init__(
        self,
        namespace: Namespace,
        *,
        owned: bool,
        login: tuple[str, str] | None = None,
        limited: bool = False,
        ask: Callable[[str, str], Plan | None] | None = None,
        listed: Sequence[str] = (),
    ) -> None:
        self.namespace = namespace
        self.used: Namespace | None = None
        self._is_used = False
        self._ask = ask
        self._listed = listed
        allowed = policy.allowed(listed, owned=owned)
        self._plans = plans.all_plans(owned=owned, login=login, limited=limited, allowed=allowed)
        self._containers = {name.partition("|")[0] for name in self._plans if "|" in name}
        self._single_words = {
            name: plan
            for name, plan in self._plans.items()
            if "|" not in name and name not in self._containers
        }

    def __call__(self, args: Arguments) -> Rewritten:
        """Return the arguments to send and how to read the reply.

        Raises:
            EscapeError: the command is unknown, or reaches beyond this namespace.
        """
        self._is_used = True
        self.used = self.namespace
        name = args[0]
        plan = self._single_words.get(name)
        if plan is None or name in crossings.recorded:
            return self._noted(plan, self.namespace, args)
        return plan(self.namespace, args)

    def all(self, commands: Iterable[Arguments]) -> tuple[list[Arguments], list[Expected]]:
        """Return the arguments to send for several commands, and how to read their replies.

        Raises:
            EscapeError: one of the commands is unknown, or reaches beyond this namespace.
        """
        sent: list[Arguments] = []
        expected: list[Expected] = []
        self._is_used = True
        self.used = namespace = self.namespace  # one namespace for all commands
        find, prefix, first = self._single_words.get, namespace.text, plans.first_argument
        record, strand, at = self._recorder(), core.here.strand, perf_counter()
        is_observed = crossings.is_observing() or crossings.listener is not None
        for args in commands:
            plan = find(args[0])
            # Written out here, as it saves three calls for nearly all commands of a pipeline.
            if plan is first and not is_observed and len(args) > 1 and type(args[1]) is str:
                if args[0] in WRITES:
                    record((self, args[:2], strand, at))
                    if core.here.blocks:
                        crossings.note_effect((self, args[:2], strand, at))
                sent.append((args[0], prefix + args[1], *args[2:]))
                expected.append(None)
                continue
            rewritten, reader = self._noted(plan, namespace, args)
            sent.append(rewritten)
            expected.append(reader)
        return sent, expected

    def take_used(self) -> bool:
        """Return whether a command was rewritten since the last call of this method."""
        was_used, self._is_used = self._is_used, False
        return was_used

    def crossing(self, record: Record) -> RedisCommand:
        """Return the command for a record on the timeline."""
        return RedisCommand(record)

    def _noted(self, plan: Plan | None, namespace: Namespace, args: Arguments) -> Rewritten:
        """Record a command and rewrite it, by a plan that may have to be looked up."""
        record = (self, args, core.here.strand, perf_counter())
        if plan is None:
            plan, args = self._look_up(args)
        rewritten, expected = plan(namespace, args)
        return rewritten, crossings.note(record, expected)

    def _recorder(self) -> Callable[[Record], None]:
        timeline = core.own_timeline()
        if timeline.has_ended and timeline.test:
            return crossings.refuse_late
        return timeline.record if timeline.test else _nowhere

    def _look_up(self, args: Arguments) -> tuple[Plan, Arguments]:
        """Find the plan of a name in any spelling: bytes, small letters, two words in one."""
        words = word(args[0]).split()
        args = (*words, *args[1:])
        name = words[0] if words else ""
        if name in self._containers and len(args) > 1:
            name = f"{name}|{word(args[1])}"
        plan = self._plans.get(name)
        if plan is None and self._ask is not None and name not in policy.REFUSED:
            plan = self._ask(words[0] if words else "", word(args[1]) if len(args) > 1 else "")
        if plan is None:
            raise core.record_failure(EscapeError(policy.refusal(name, self._listed)))
        return plan, args


def _nowhere(_record: Record) -> None:
    """Record nothing: no test is running."""


class PassingRewriter(Rewriter):
    """Sends all commands as they are, to a server of one worker alone."""

    def __init__(self) -> None:
        super().__init__(NoNamespace(), owned=True)
        self._is_configured = False

    def __call__(self, args: Arguments) -> Rewritten:
        """Return the arguments as they are."""
        self._is_used = True
        name = word(args[0])
        if name.startswith("CONFIG"):
            self._is_configured = True
        record = (self, args, core.here.strand, perf_counter())
        return args, crossings.note(record, plans.effect(name))

    def take_configured(self) -> bool:
        """Return whether a command may have configured the server since the last call."""
        was_configured, self._is_configured = self._is_configured, False
        return was_configured

    def all(self, commands: Iterable[Arguments]) -> tuple[list[Arguments], list[Expected]]:
        """Return the arguments of several commands as they are."""
        rewritten = [self(args) for args in commands]
        return [sent for sent, _ in rewritten], [expected for _, expected in rewritten]


class FollowingRewriter(Rewriter):
    """The rewriter in a process that a test has started; its namespace is always the test's.

    Args:
        namespace_of: returns the namespace of a generation.
        now: returns the generation of the test that is running.
        options: the keyword arguments of ``Rewriter``.
    """

    def __init__(
        self, namespace_of: Callable[[int], Namespace], now: Callable[[], int], **options: Any
    ) -> None:
        super().__init__(namespace_of(now()), **options)
        self._namespace_of = namespace_of
        self._now = now

    def __call__(self, args: Arguments) -> Rewritten:
        """Return the arguments to send and how to read the reply, as ``Rewriter`` does."""
        self._follow()
        return super().__call__(args)

    def all(self, commands: Iterable[Arguments]) -> tuple[list[Arguments], list[Expected]]:
        """Return the arguments to send and how to read the replies, as ``Rewriter`` does."""
        self._follow()
        return super().all(commands)

    def _follow(self) -> None:
        now = self._now()
        if now != self.namespace.generation:
            self.namespace = self._namespace_of(now)

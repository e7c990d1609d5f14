"""Reads statements of SQL: their verb, the tables that they name, their normal form.

This is the only reader of SQL that was sent. (``postgres.migrations.escapes`` and
``postgres.template.sources`` search the source of migrations, often in fragments.) sqlparse, which
Django requires, finds the words. This module decides by their clause which of them are names of
tables.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache
from itertools import islice
from typing import Final, NamedTuple

_REMEMBERED: Final = 1024
_WRITING: Final = frozenset({"INSERT", "UPDATE", "DELETE", "TRUNCATE", "COPY", "MERGE", "REPLACE"})
_QUERIES: Final = frozenset({"SELECT", "VALUES", "WITH", "TABLE", *_WRITING})
DEFINING: Final = frozenset({"CREATE", "ALTER", "DROP", "LOCK", "COMMENT", "VACUUM", "ANALYZE"})
_INTO: Final = frozenset({"INSERT", "MERGE", "REPLACE"})
"""Verbs whose table follows INTO."""
_NAMED_BEFORE: Final = frozenset({"ONLY", "LATERAL", "IF", "NOT", "EXISTS", "RECURSIVE"})
"""Words that may come between a clause and its table."""
_ENDING: Final = frozenset(
    {
        "WHERE", "GROUP", "ORDER", "HAVING", "LIMIT", "OFFSET", "FETCH", "UNION", "EXCEPT",
        "INTERSECT", "WINDOW", "FOR", "ON", "SET", "VALUES", "RETURNING", "SELECT", "WHEN",
        "DEFAULT", "OVERRIDING", "RESTART", "CONTINUE", "CASCADE", "RESTRICT",
    }
)  # fmt: skip
"""Words after which a clause names no further tables."""
_VALUE: Final = "?"
_LIST: Final = "…"
_QUOTED: Final = re.compile(
    r"""
    (?P<name> "(?:""|[^"])*" | `[^`]*` )
    | (?P<comment> --[^\n]* | /\*.*?(?:\*/|\Z) )
    | (?<!\w)[eE]'(?:\\.|''|[^'\\])*(?:'|\Z)
    | '(?:''|[^'])*(?:'|\Z)
    | \$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)
    """,
    re.DOTALL | re.VERBOSE,
)
"""A quoted name, a comment or a text, as Postgres delimits them, or the beginning of one."""
_TEXT: Final = "''"


class _Kind(Enum):
    """The kind of a token."""

    SPACE = auto()
    NUMBER = auto()
    TEXT = auto()
    PARAMETER = auto()
    WORD = auto()


class _Word(NamedTuple):
    """A word, a sign or a name of a statement.

    Attributes:
        text: the word as it is written; a quoted name without its quotes.
        is_quoted: whether it is a quoted name, and so no keyword.
    """

    text: str
    is_quoted: bool = False

    @property
    def upper(self) -> str:
        """The word in capitals; empty for a quoted name."""
        return "" if self.is_quoted else self.text.upper()

    @property
    def name(self) -> str:
        """The word as a name: Postgres folds unquoted names to small letters."""
        return self.text if self.is_quoted else self.text.lower()


@dataclass(frozen=True)
class ParsedStatement:
    """A statement that was read.

    Attributes:
        verb: the first word of the statement in capitals; if it has a WITH, the first word after
            it.
        target: the table that it writes to; empty if it writes to none.
        tables: all tables that it names, without schemas, in the order of their first mention, and
            without names that a WITH defines.
        outer: the first table that the statement names outside of its sub-statements.
        writes: whether it, or a sub-statement, changes rows.
    """

    verb: str
    target: str
    tables: tuple[str, ...]
    outer: str
    writes: bool

    @property
    def summary(self) -> str:
        """A summary of the statement: its verb, and the table that it is about."""
        return f"{self.verb} {self.table}".rstrip()

    @property
    def table(self) -> str:
        """The table that it is about: the first that it writes to, or else that it reads."""
        return self.target or self.outer or next(iter(self.tables), "")


@lru_cache(maxsize=_REMEMBERED)
def read(sql: str) -> ParsedStatement:
    """Read a statement; if there are several, only the first one counts."""
    reader = _StatementReader()
    for word in _words(sql):
        reader.take(word)
    return reader.reading()


class TransactionStep(Enum):
    """The effect of a statement on the transaction of its session."""

    BEGIN = auto()
    COMMIT = auto()
    ROLLBACK = auto()


_STEPS: Final = {
    "BEGIN": TransactionStep.BEGIN,
    "START": TransactionStep.BEGIN,
    "COMMIT": TransactionStep.COMMIT,
    "END": TransactionStep.COMMIT,
    "ROLLBACK": TransactionStep.ROLLBACK,
    "ABORT": TransactionStep.ROLLBACK,
}
_STARTS: Final = ("--", "/*", *(word[:5] for word in _STEPS))


def transaction_step(sql: str) -> TransactionStep | None:
    """Return the effect of a statement on its transaction; None if it has none.

    A ROLLBACK TO a savepoint ends no transaction. If there are several statements, only the first
    one counts.
    """
    start = sql.lstrip()[:5].upper()
    # Without sqlparse where the result is certain, as many runs read nothing else.
    if not start.startswith(_STARTS):
        return None
    words = [word.upper for word in islice(_words(sql), 3)]
    step = _STEPS.get(words[0]) if words else None
    if words[:1] == ["START"] and words[1:2] != ["TRANSACTION"]:
        return None
    is_to_savepoint = step is TransactionStep.ROLLBACK and "TO" in words
    return None if is_to_savepoint else step


@lru_cache(maxsize=_REMEMBERED)
def normalised(sql: str) -> str:
    """Return a statement without comments and with one sign for each value or list of values.

    Statements that differ only in these become equal.
    """
    parts: list[str] = []
    for kind, text in _tokens(sql):
        if kind is _Kind.SPACE:
            if parts and parts[-1] != " ":
                parts.append(" ")
        elif kind is _Kind.WORD:
            parts.append(text)
        else:
            _add_value(parts, text if kind is _Kind.PARAMETER else _VALUE)
    return "".join(parts).strip()


def _add_value(parts: list[str], shown: str) -> None:
    """Add a value, or turn it into a list if another value precedes it."""
    *_, value, comma = ["", "", *(part for part in parts[-3:] if part != " ")]
    if comma == "," and (value in (_VALUE, _LIST) or value.startswith("%")):
        while parts[-1] in (" ", ","):
            parts.pop()
        parts[-1] = _LIST
    else:
        parts.append(shown)


def _tokens(sql: str) -> Iterator[tuple[_Kind, str]]:
    """Yield the tokens of a statement, as sqlparse finds them."""
    # Imported here, as only readers of a timeline need it.
    from sqlparse import lexer
    from sqlparse import tokens as kinds

    # sqlparse lets a backslash escape quotes in all texts, and does not see cut texts as texts.
    plain = _QUOTED.sub(_masked, sql)
    for kind, text in lexer.tokenize(plain):  # type: ignore[no-untyped-call]  # sqlparse's
        if kind in kinds.Whitespace:
            yield _Kind.SPACE, text
        elif kind in kinds.Literal.Number:
            yield _Kind.NUMBER, text
        elif text == _TEXT:
            yield _Kind.TEXT, text
        # sqlparse takes the JSON operator ? for a placeholder as well.
        elif kind in kinds.Name.Placeholder and text.startswith("%"):
            yield _Kind.PARAMETER, text
        else:
            yield _Kind.WORD, text


def _masked(found: re.Match[str]) -> str:
    """Return a quoted name as it is, a space for a comment, and an empty text for a text."""
    if found["comment"]:
        return " "
    return found["name"] or _TEXT


def _words(sql: str) -> Iterator[_Word]:
    for kind, text in _tokens(sql):
        if kind is _Kind.SPACE:
            continue
        if text[:1] in ('"', "`"):
            yield _Word(text[1:-1].replace('""', '"'), is_quoted=True)
        elif kind is _Kind.WORD:  # some have several words, such as LEFT OUTER JOIN
            yield from map(_Word, text.split())
        else:
            yield _Word("'")


class _Expects(Enum):
    """The kind of word that may come next in a nesting."""

    NOTHING = auto()
    TABLE = auto()
    TARGET = auto()
    COMMA = auto()
    CTE = auto()


@dataclass
class _Nesting:
    """The statement itself, or the part within one pair of parentheses.

    Attributes:
        first: the first word of the nesting; empty until it is read.
        verb: the verb of this nesting's statement: its first word, or the one after its WITH.
        expects: the kind of word that may come next.
        before: the words before the next one, in their order.
        is_of_tables: whether the parentheses contain joined tables.
    """

    first: str = ""
    verb: str = ""
    expects: _Expects = _Expects.NOTHING
    before: tuple[str, str] = ("", "")
    is_of_tables: bool = False


@dataclass
class _StatementReader:
    """Reads the words of a statement one after the other."""

    nestings: list[_Nesting] = field(default_factory=lambda: [_Nesting()])
    found: list[tuple[str, int]] = field(default_factory=list)
    named_by_with: set[str] = field(default_factory=set)
    targets: list[tuple[str, int]] = field(default_factory=list)
    writes: bool = False
    pending: list[str] = field(default_factory=list)
    is_over: bool = False

    def take(self, word: _Word) -> None:
        """Read the next word."""
        if self.is_over:
            return
        nesting = self.nestings[-1]
        if word.text == ";" and not word.is_quoted:
            self._end_name()
            self.is_over = True
        elif word.text == "(" and not word.is_quoted:
            self._open(nesting)
        elif word.text == ")" and not word.is_quoted:
            self._close()
        elif self._takes_name(nesting, word):
            self.pending.append(word.name)
        else:
            self._end_name()
            self._take_word(nesting, word)
        nesting.before = (nesting.before[1], word.upper)

    def reading(self) -> ParsedStatement:
        """Return the statement that was read."""
        self._end_name()
        names = [(name, depth) for name, depth in self.found if name not in self.named_by_with]
        outer = next((name for name, depth in names if depth == 1), "")
        target = min(self.targets, key=lambda found: found[1])[0] if self.targets else ""
        nesting = self.nestings[0]
        return ParsedStatement(
            verb=nesting.verb if nesting.first == "WITH" else nesting.first,
            target=target,
            tables=tuple(dict.fromkeys(name for name, _ in names)),
            outer=outer,
            writes=self.writes,
        )

    def _open(self, nesting: _Nesting) -> None:
        """Begin a new nesting; its first word shows what it is."""
        # A name before parentheses is a function, the table of an INSERT, or a CTE.
        if self.pending and nesting.expects is _Expects.TABLE:
            self.pending.clear()
            nesting.expects = _Expects.COMMA
        if nesting.expects is _Expects.TARGET and not self.pending:
            nesting.expects = _Expects.NOTHING  # COPY (SELECT ...) TO
        is_of_tables = nesting.expects is _Expects.TABLE and not self.pending
        self._end_name()
        inner = _Nesting(is_of_tables=is_of_tables)
        if is_of_tables:
            inner.expects = _Expects.TABLE
            nesting.expects = _Expects.COMMA
        self.nestings.append(inner)

    def _close(self) -> None:
        self._end_name()
        if len(self.nestings) > 1:
            self.nestings.pop()

    def _takes_name(self, nesting: _Nesting, word: _Word) -> bool:
        """Return whether a word begins or continues a name that a clause expects."""
        if nesting.expects not in (_Expects.TABLE, _Expects.TARGET, _Expects.CTE):
            return False
        if self.pending and self.pending[-1] != ".":
            return word.text == "." and not word.is_quoted
        if word.is_quoted or (self.pending and word.text != "."):
            return True
        text = word.upper
        is_word = text in _NAMED_BEFORE or text in _QUERIES or text in _ENDING
        return (word.text[:1].isalpha() and not is_word) or word.text[:1] == "_"

    def _end_name(self) -> None:
        """Note the complete name of a table."""
        if not self.pending:
            return
        nesting, name = self.nestings[-1], self.pending[-1]
        self.pending.clear()
        if nesting.expects is _Expects.CTE:
            self.named_by_with.add(name)
            nesting.expects = _Expects.NOTHING
            return
        depth = sum(not found.is_of_tables for found in self.nestings)
        self.found.append((name, depth))
        if nesting.expects is _Expects.TARGET:
            self.targets.append((name, depth))
        nesting.expects = _Expects.COMMA

    def _take_word(self, nesting: _Nesting, word: _Word) -> None:
        text = word.upper
        if not nesting.first and (text or word.is_quoted):
            nesting.first = text or "a name"
            if nesting.is_of_tables and text in _QUERIES:
                nesting.expects = _Expects.NOTHING
        if text == ",":
            self._take_comma(nesting)
        elif text in _QUERIES or text in DEFINING:
            self._begin_statement(nesting, text)
        elif text in _ENDING:
            self._end_clause(nesting, text)
        else:
            self._begin_clause(nesting, text)

    def _take_comma(self, nesting: _Nesting) -> None:
        if nesting.expects is _Expects.COMMA:
            nesting.expects = _Expects.TABLE
        elif nesting.first == "WITH" and nesting.verb in ("", "WITH"):
            nesting.expects = _Expects.CTE

    def _begin_statement(self, nesting: _Nesting, text: str) -> None:
        before = nesting.before
        if (text == "UPDATE" and "FOR" in before) or before[1] in ("DO", "KEY", "THEN"):
            return  # a lock, or the action of ON CONFLICT or MERGE
        if nesting.verb and nesting.verb != "WITH":
            if text == "TABLE" and nesting.verb in DEFINING | {"TRUNCATE"}:
                nesting.expects = _Expects.TARGET
            elif text == "SELECT":  # after INSERT INTO or UNION
                nesting.expects = _Expects.NOTHING
            return
        nesting.verb = text
        self.writes |= text in _WRITING - {"COPY"}
        if text == "WITH":
            nesting.expects = _Expects.CTE
        elif text in ("UPDATE", "TRUNCATE", "COPY"):
            nesting.expects = _Expects.TARGET
        else:
            nesting.expects = _Expects.NOTHING

    def _end_clause(self, nesting: _Nesting, text: str) -> None:
        is_index = text == "ON" and nesting.verb == "CREATE" and nesting.expects is _Expects.NOTHING
        nesting.expects = _Expects.TARGET if is_index else _Expects.NOTHING

    def _begin_clause(self, nesting: _Nesting, text: str) -> None:
        if text == "JOIN" or (text == "USING" and nesting.verb in ("DELETE", "MERGE")):
            nesting.expects = _Expects.TABLE
        elif text == "INTO" and nesting.verb in _INTO:
            nesting.expects = _Expects.TARGET
        elif text == "FROM" and nesting.verb == "COPY":
            self.writes = True
        elif text == "FROM" and self._is_clause(nesting):
            is_target = nesting.verb == "DELETE" and nesting.before[1] == "DELETE"
            nesting.expects = _Expects.TARGET if is_target else _Expects.TABLE

    def _is_clause(self, nesting: _Nesting) -> bool:
        """Return whether FROM begins a list of tables, unlike that in ``EXTRACT(YEAR FROM x)``."""
        if nesting.verb in ("", "WITH") or nesting.verb in DEFINING - {"CREATE"}:
            return False
        return nesting.before[1] != "DISTINCT" or nesting.before[0] not in ("IS", "NOT")

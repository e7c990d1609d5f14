"""Finds SQL that reaches beyond the schema of a worker, in its text and without a server."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_TRUSTED: Final = frozenset(
    {
        "bool_plperl",
        "btree_gin",
        "btree_gist",
        "citext",
        "cube",
        "dict_int",
        "fuzzystrmatch",
        "hstore",
        "hstore_plperl",
        "intarray",
        "isn",
        "jsonb_plperl",
        "lo",
        "ltree",
        "pg_trgm",
        "pgcrypto",
        "plperl",
        "plpgsql",
        "pltcl",
        "seg",
        "tablefunc",
        "tcn",
        "tsm_system_rows",
        "tsm_system_time",
        "unaccent",
        "uuid-ossp",
    }
)
"""Extensions that need no superuser.

Source: "Additional Supplied Modules and Extensions" of the documentation of Postgres 18, whose
pages say of a module that it "is considered trusted", and its chapters of PL/Perl and PL/Tcl.
"""


@dataclass(frozen=True)
class Escape:
    """One kind of statement whose effects a schema does not isolate.

    Attributes:
        what: the statement, in words.
        why: the reason why it is not isolated.
        is_of_server: whether a separate database does not isolate it either.
        is_hint: whether it may be correct, so that somebody has to check it.
    """

    what: str
    why: str
    is_of_server: bool = False
    is_hint: bool = False


@dataclass(frozen=True)
class Match:
    """The position of such a statement in a text.

    Attributes:
        escape: the kind of escape.
        text: the words by which it was found.
        offset: the offset of these words in the text that was searched.
    """

    escape: Escape
    text: str
    offset: int


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE | re.VERBOSE)


_WEB_FILE: Final = r"(?:html?|css|js|json|xml|txt)\b"

# Of a function that names all schemas; an empty constant is blanked before the search.
_SAFE_PATH: Final = r"""
    \s*(?:=|TO\b) (?:\s*,?\s*(?:''|""|"?pg_(?:catalog|temp)"?))*
    \s+(?:AS|LANGUAGE|SECURITY|STABLE|IMMUTABLE|VOLATILE|STRICT|PARALLEL|COST|BEGIN|RETURN)\b
"""

_ESCAPES: Final = (
    (
        Escape("public", "names the schema that all share instead of the worker's own"),
        _pattern(
            rf"""(?<![\w.$/@-]) (?:"public"|public) \s*\.\s* (?=["\w%{{]) (?!{_WEB_FILE})
            | \bSCHEMA\s+"?public\b | (?:schema\w*|nspname) \s* (?:=|IN\s*\() \s* 'public'"""
        ),
    ),
    (
        Escape("LISTEN or NOTIFY", "all sessions of a database hear its channels"),
        _pattern(
            r"""(?:\A|;|\$|\b(?:BEGIN|THEN|ELSE|LOOP|DO|ALSO|INSTEAD)\b) \s*
            (?P<shown>(?:LISTEN|NOTIFY)\s+["\w%{][^\s;,]*) \s* (?:[,;]|\Z)
            | \bpg_notify\s*\("""
        ),
    ),
    (
        Escape("an advisory lock", "its number is locked for the whole database"),
        _pattern(r"\bpg_(?:try_)?advisory_\w+ \s* \("),
    ),
    (
        Escape("a large object", "it belongs to the database, and stays when the schema goes"),
        _pattern(
            r"""\b(?:lo_(?:creat|create|import|export|unlink|open|close|get|put|from_bytea
            |lseek|lseek64|tell|tell64|truncate|truncate64)|loread|lowrite) \s* \(
            | \bpg_largeobject(?:_metadata)?\b"""
        ),
    ),
    (
        Escape("a search_path of its own", "it leads out of the worker's schema"),
        _pattern(
            r"""\bSET\s+(?:(?:LOCAL|SESSION)\s+)?search_path\b (?!{_SAFE_PATH})
            | \bset_config\s*\(\s*'search_path'""".replace("{_SAFE_PATH}", _SAFE_PATH)
        ),
    ),
    (
        Escape("CREATE SCHEMA", "the schema is beside the worker's, and all workers create it"),
        _pattern(r"\bCREATE\s+SCHEMA\b"),
    ),
    (
        Escape("CREATE PUBLICATION", "it belongs to the database, and all workers create it"),
        _pattern(r"\bCREATE\s+PUBLICATION\b"),
    ),
    (
        Escape("CREATE EVENT TRIGGER", "it fires for all workers, and needs a superuser"),
        _pattern(r"\bCREATE\s+EVENT\s+TRIGGER\b"),
    ),
    (
        Escape(
            "DROP EXTENSION",
            "the extension is that of all runs in the database: it stays, or where objects depend"
            " on it the migration is refused",
        ),
        _pattern(r"\bDROP\s+EXTENSION\b"),
    ),
    (
        Escape(
            "ALTER EXTENSION",
            "the extension is that of all runs in the database, so such a migration is refused",
        ),
        _pattern(r"\bALTER\s+EXTENSION\s+[\w\"-]+\s+SET\s+SCHEMA\b"),
    ),
    (
        Escape("an update of an extension", "all runs in the database share its version"),
        _pattern(r"\bALTER\s+EXTENSION\s+[\w\"-]+\s+UPDATE\b"),
    ),
    (
        Escape(
            "a foreign server",
            "it belongs to the database, and its tables show the rows of another one",
        ),
        _pattern(r"\bCREATE\s+SERVER\b"),
    ),
    (
        Escape("a setting of the database", "it holds for all workers"),
        _pattern(r"\bALTER\s+DATABASE\s+[\w\"%{}-]+\s+(?:RE)?SET\b"),
    ),
    (
        Escape("a role", "roles belong to the server", is_of_server=True),
        _pattern(r"\b(?:CREATE|ALTER|DROP)\s+(?:ROLE|GROUP|USER(?!\s+MAPPING))\s+[\"\w%{]"),
    ),
    (
        Escape("ALTER SYSTEM", "it changes the configuration of the server", is_of_server=True),
        _pattern(r"\bALTER\s+SYSTEM\b"),
    ),
)

_EXTENSION: Final = _pattern(
    r"""\bCREATE\s+EXTENSION\s+(?:IF\s+NOT\s+EXISTS\s+)?
    (?:"(?P<quoted>[^"]+)"|(?!IF\s)(?P<plain>\w+))"""
)

# core.sqltext is not used here. It reads whole statements and takes a body in $$ for a value, but
# this module also gets fragments from Python's source, and bodies are executed.
_TOKEN: Final = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?\*/)
    |(?P<text>\bE'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*')
    |"(?:[^"]|"")*\"""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_TAKES_A_NAME: Final = re.compile(
    r"\b(?:nextval|currval|setval|to_reg\w+|pg_get_serial_sequence)\s*\(\s*\Z", re.IGNORECASE
)
_IS_CAST_TO_A_NAME: Final = re.compile(r"\s*::\s*reg\w+", re.IGNORECASE)

_OBJECT: Final = (
    r"(?:OR\s+REPLACE\s+)?(?:TEMP\w*\s+|UNLOGGED\s+|UNIQUE\s+|MATERIALIZED\s+|EVENT\s+)?"
    r"(?:TABLE|VIEW|INDEX|FUNCTION|PROCEDURE|TRIGGER|SEQUENCE|SCHEMA|TYPE|DOMAIN|EXTENSION|ROLE"
    r"|USER|GROUP|SYSTEM|PUBLICATION|POLICY|RULE|DATABASE|SERVER|LANGUAGE)\b"
)
_STATEMENT: Final = (
    r"(?:SELECT\s|INSERT\s+INTO\s|UPDATE\s+\S+(?:\s+(?:AS\s+)?\w+)?\s+SET\s|DELETE\s+FROM\s"
    rf"|WITH\s+(?:RECURSIVE\s+)?\w+\s+AS\s|(?:CREATE|ALTER|DROP)\s+{_OBJECT}|TRUNCATE\s|CALL\s"
    r"|COPY\s|LOCK\s+TABLE\s|GRANT\s|REVOKE\s|COMMENT\s+ON\s|REFRESH\s+MATERIALIZED\s"
    r"|(?:SET|LISTEN|NOTIFY|FROM|JOIN|WHERE|PERFORM|DO)\s)"
)
_ANY_SQL: Final = re.compile(rf"(?:\A|[;(\n$])\s*{_STATEMENT}", re.IGNORECASE)
_UPPER_SQL: Final = re.compile(rf"(?:\A|[;(\n$])\s*{_STATEMENT}")
_LOWER_SQL: Final = re.compile(
    r"\A\s*\(?(?:select\s|insert\s+into\s|update\s+\S+\s+set\s|delete\s+from\s|with\s+\w+\s+as\s*\("
    r"|(?:create|alter|drop)\s+(?:or\s+replace\s+)?"
    r"(?:table|view|index|function|trigger|sequence|schema|type|extension)\s|truncate\s+table\s)"
)


def is_sql(text: str, *, likely: bool) -> bool:
    """Return whether a text looks like SQL.

    Args:
        text: any text.
        likely: whether SQL is expected there. If it is not, a text like "Select a file"
            counts as prose; SQL has its keywords in capitals, or begins with a statement in small
            letters.
    """
    if likely:
        return bool(_ANY_SQL.search(text))
    return bool(_UPPER_SQL.search(text) or _LOWER_SQL.search(text))


def escapes(statements: str) -> Iterator[Match]:
    """Yield the parts of SQL that reach beyond a schema, outside of comments and constants."""
    code = bare(statements)
    for escape, pattern in _ESCAPES:
        for match in pattern.finditer(code):
            group = "shown" if match.groupdict().get("shown") else 0
            yield Match(escape, match[group], match.start(group))
    for match in _EXTENSION.finditer(code):
        escape_by_extension = untrusted(match["quoted"] or match["plain"])
        if escape_by_extension:
            yield Match(escape_by_extension, match[0], match.start())


def bare(statements: str) -> str:
    """Return SQL with spaces instead of its comments and of constants that are not executed."""
    return _TOKEN.sub(_blanked, statements)


def texts(statements: str) -> list[tuple[int, int]]:
    """Return the spans of the quoted texts in SQL."""
    return [token.span() for token in _TOKEN.finditer(statements) if token["text"] is not None]


def without_comments(statements: str) -> str:
    """Return SQL without its comments."""
    return _TOKEN.sub(lambda token: "" if token["comment"] else token[0], statements)


def untrusted(extension: str) -> Escape | None:
    """Return a text about an extension that not every role may create."""
    if extension in _TRUSTED:
        return None
    return Escape(
        f"the extension {extension}",
        "only a superuser may create it, unless its maker has marked it as trusted",
        is_of_server=True,
    )


def _blanked(token: re.Match[str]) -> str:
    """Return spaces of the same length and lines for a match that is not code."""
    if not token["comment"] and (token["text"] is None or _is_code(token)):
        return token[0]
    return re.sub(r"[^\n]", " ", token[0])


def _is_code(token: re.Match[str]) -> bool:
    """Return whether a quoted text names an object or is executed."""
    content = token["text"].strip("eE").strip("'")
    if content in {"public", "search_path"} or is_sql(content, likely=False):
        return True
    before, after = token.string[: token.start()], token.string[token.end() :]
    return bool(_TAKES_A_NAME.search(before) or _IS_CAST_TO_A_NAME.match(after))

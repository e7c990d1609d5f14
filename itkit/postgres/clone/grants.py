"""The statements that give the objects of a schema the privileges of the template's objects."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final, LiteralString

from itkit.postgres.server.driver import Connection
from itkit.postgres.server.server import literal

# The object as a statement names it, the column if any, its privileges, its kind's defaults.
_OBJECTS: LiteralString = """
    SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || quote_ident(relname), NULL,
        relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)
    FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relacl IS NOT NULL
    UNION ALL
    SELECT 'TABLE ' || quote_ident(relname), quote_ident(attname), attacl, NULL::aclitem[]
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = current_schema()::regnamespace AND attacl IS NOT NULL
    UNION ALL
    SELECT 'ROUTINE ' || oid::regprocedure, NULL, proacl, acldefault('f', proowner)
    FROM pg_proc WHERE pronamespace = current_schema()::regnamespace AND proacl IS NOT NULL
    UNION ALL
    SELECT 'TYPE ' || quote_ident(typname), NULL, typacl, acldefault('T', typowner)
    FROM pg_type WHERE typnamespace = current_schema()::regnamespace AND typacl IS NOT NULL
    UNION ALL
    SELECT 'SCHEMA .', NULL, nspacl, acldefault('n', nspowner)
    FROM pg_namespace WHERE oid = current_schema()::regnamespace AND nspacl IS NOT NULL
"""
_DEFAULTS: LiteralString = """
    SELECT CASE defaclrole WHEN quote_ident(current_user)::regrole
            THEN 'ALTER DEFAULT PRIVILEGES IN SCHEMA .'
            ELSE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA .',
                pg_get_userbyid(defaclrole)) END,
        CASE defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES'
            WHEN 'f' THEN 'FUNCTIONS' ELSE 'TYPES' END, defaclacl, NULL::aclitem[]
    FROM pg_default_acl WHERE defaclnamespace = current_schema()::regnamespace
"""
_EXPLODED: LiteralString = """
    SELECT o.object, o.part, a.is_default, a.grantee, a.is_grantable,
        array_agg(a.privilege_type ORDER BY a.privilege_type)
    FROM ({objects}) o(object, part, acl, defaults), LATERAL (
        SELECT false AS is_default, e.* FROM aclexplode(o.acl) e
        UNION ALL SELECT true, e.* FROM aclexplode(o.defaults) e
    ) x(is_default, grantor, grantee_id, privilege_type, is_grantable), LATERAL (
        SELECT x.*, CASE x.grantee_id WHEN 0 THEN 'PUBLIC'
            WHEN quote_ident(current_user)::regrole THEN 'CURRENT_USER' -- by another name later
            ELSE quote_ident(pg_get_userbyid(x.grantee_id)) END AS grantee
    ) a
    GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 4, 3 DESC, 5
"""
_SCHEMA: Final = "SCHEMA ."
_Privileges = set[tuple[bool, tuple[str, ...]]]


def grants(connection: Connection) -> Iterator[str]:
    """Yield the statements that change the default privileges of all objects to the template's."""
    for target, grantee, default, granted in _read(connection, _OBJECTS):
        on, part = target
        if default:
            yield _for_schema(f"REVOKE ALL ON {on} FROM {grantee}")
        for is_grantable, privileges in sorted(granted):
            listed = ", ".join(f"{p} ({part})" if part else p for p in privileges)
            yield _for_schema(f"GRANT {listed} ON {on} TO {grantee}{_option(is_grantable)}")


def default_privileges(connection: Connection) -> Iterator[str]:
    """Yield the statements that set the privileges of objects made in the schema later."""
    for target, grantee, _, granted in _read(connection, _DEFAULTS):
        alter, kind = target
        for is_grantable, privileges in sorted(granted):
            listed = ", ".join(privileges)
            yield _for_schema(
                f"{alter} GRANT {listed} ON {kind} TO {grantee}{_option(is_grantable)}"
            )


def _read(
    connection: Connection, objects: LiteralString
) -> Iterator[tuple[tuple[str, str | None], str, _Privileges, _Privileges]]:
    """Yield object, grantee, default privileges and the template's, where these differ."""
    found: defaultdict[tuple[str, str | None, str], tuple[_Privileges, _Privileges]]
    found = defaultdict(lambda: (set(), set()))
    rows: Iterable[tuple[str, str | None, bool, str, bool, list[str]]] = connection.execute(
        _EXPLODED.replace("{objects}", objects)
    ).fetchall()
    for on, part, is_default, grantee, is_grantable, privileges in rows:
        default, granted = found[on, part, grantee]
        (default if is_default else granted).add((is_grantable, tuple(privileges)))
    for (on, part, grantee), (default, granted) in found.items():
        if default != granted:
            yield (on, part), grantee, default, granted


def _option(is_grantable: bool) -> str:  # noqa: FBT001 - read from the catalogue as it is
    return " WITH GRANT OPTION" if is_grantable else ""


def _for_schema(statement: str) -> str:
    """Return a statement that inserts the schema's name, which the script does not know, itself."""
    head, found, tail = statement.partition(_SCHEMA)
    if not found:
        return statement
    form = f"{head.replace('%', '%%')}SCHEMA %I{tail.replace('%', '%%')}"
    return f"DO {literal(f'BEGIN EXECUTE format({literal(form)}, current_schema()); END')}"

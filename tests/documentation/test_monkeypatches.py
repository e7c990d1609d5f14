"""Every place where itkit changes what belongs to Django, a library or Python itself.

The list is for review: a new monkeypatch needs a line here, and its function has to say why no hook
does it and with which versions it was checked.
"""

import ast
import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import itkit

ROOT = Path(itkit.__file__).parent

PATCHES = {
    "backends.patches.Patches._disable_overrides": "django.conf.settings._wrapped",
    "backends.presets.base._watch": "the class of a task's result",
    "backends.presets.celery.CeleryTasks.installed": "Task.apply_async, Celery.send_task",
    "backends.presets.mail.Mail.installed": "locmem.EmailBackend.send_messages",
    "backends.presets.storage.Storage.installed": "the class of a storage's object",
    "backends.relay._before_start": "BaseProcess.start",
    "data.factories.factories._on_database": "get_factory of copied declarations",
    "data.profile.profiled": "factory.builder.StepBuilder.build",
    "environment.afterwards.Door._no_databases": "BaseDatabaseWrapper.check_settings",
    "environment.cases._put_flush_back": "Django's dictionary of commands",
    "environment.cases.followed": (
        "TransactionTestCase.setUpClass, _reset_sequences, _should_reload_connections"
    ),
    "environment.files.Files.installed": "FileBasedCache._dir",
    "environment.leaving.Leaving.watched": "os._exit",
    "observation.canaries.Canaries._listen": "methods of test clients, locmem.EmailBackend, Logger",
    "observation.effects.followed": "methods of locmem.EmailBackend and of caches",
    "postgres.migrations.watch.MigrationNames.followed": "MigrationExecutor.apply_migration",
    "postgres.routing.kept.followed": "DatabaseWrapper.get_new_connection",
    "postgres.routing.kept._connecting": "the module of the driver of a connection of Django's",
    "postgres.server.driver.attached": "the adapters of a connection of psycopg's",
    "postgres.routing.routed.install": "BaseDatabaseWrapper.creation, client",
    "postgres.routing.routing.Routing.forget_connections": "connections[alias].connection",
    "postgres.server.stand_in._set": "connections.settings",
    "postgres.template.recording._configurations_seen": "Apps.get_app_config",
    "postgres.template.recording._environment_seen": "os.environ's __getitem__, __iter__",
    "postgres.template.recording._questions_seen": "os.stat, os.access",
    "postgres.template.recording._settings_seen": "LazySettings.__getattribute__",
    "pytest_plugin.sweeping.Sweeping._tear_down": "the request and the fixtures of a test of pytest",
    "redis.clients.clients_led": "methods of the clients and pipelines of redis-py and valkey-py",
    "redis.wire.async_connection._dial": "the streams of a connection",
    "redis.wire.patch._replace": "methods of the connections of redis-py and valkey-py",
    "redis.wire.wire._assign": "the login of a connection",
    "pytest_plugin.plugin._note_failures": "TestCaseFunction.addError, addFailure, of one item",
    "redis.wire.wire.dialling": "_connect and the handshake of a connection",
    "report.mailed.Mailed.followed": "Template.render, locmem.EmailBackend.send_messages",
    "runner.scopes.install": "methods of TestCase, TestSuite and SimpleTestCase",
    "runner.scopes.prepare": "addError and its like of a result",
    "runner.scopes.required": "unittest.TestCase.run",
    "sweep.injection.fault._led": "threading.excepthook",
    "sweep.gate.statements.led": "methods of CursorWrapper and BaseDatabaseWrapper",
    "timeline.sql.recorded": "methods of CursorWrapper and BaseDatabaseWrapper",
    "timeline.threads.followed": "methods of threads, pools, servers and futures, os.execve and its like",
    "timeline.transactions.followed": "methods of Atomic, BaseDatabaseWrapper and TestCase",
}

OTHERS = {  # what looks like one
    "backends.patches._set": "puts a setting back by Django's own interface",
    "core.handshake.Invitation.export": "environment of child processes",
    "core.handshake.Payload.exported": "environment of child processes",
    "core.instrumentation.Instrumentation.add": "the code of a project's functions that a test tracks",
    "core.instrumentation.Instrumentation.remove": "gives it back",
    "core.wrapping.wrapped": "the tool; whoever calls it is in the list above",
    "data.bulk.builder.Builder.recurse": "our own class",
    "data.bulk.insertion._insert_into": "a field of a new instance",
    "data.bulk.keys.Keys.give": "a field of a new instance",
    "environment.files._remember": "the setter of the property of Files.installed",
    "management.commands.itkit.Command._findings_in_databases": "environment of the command",
    "network.libpq.lead_to": "environment of child processes",
    "timeline.callsite._hide_own_frames": "the links of a traceback",
    "network.libpq.put_back": "environment of child processes",
    "postgres.routing.routed._Routed.__set__": "the setter of the attribute of routed.install",
    "postgres.routing.routed.uninstall": "the end of routed.install",
    "postgres.template.recording._imported_again": "puts modules back that it has taken away",
    "postgres.template.recording._replaced": "the tool; whoever calls it is in the list above",
    "postgres.clone.clone._Script._add_columns_of_views": "statements of our own script",
    "pytest_plugin.reports.with_failure": "the report of a test that was swept",
    "redis.project._assign": "a setting, by Django's own interface",
    "redis.project._variable_pointed": "environment that names the project's server",
    "redis.wire.async_connection._streams": "a connection of our own",
    "runner.runner._number": "a mark on a test",
    "runner.sweeping._again": "a copy of a test",
    "runner.scopes._set_up_class": "what unittest itself sets when a set-up fails",
    "runner.scopes._set_up_module": "what unittest itself sets when a set-up fails",
    "sweep.gate.calls.led": "our own fakes",
    "sweep.decorating.faults": "a mark on a test",
    "sweep.decorating.races": "a mark on a test",
    "sweep.decorating.repeats": "a mark on a test",
    "sweep.decorating.states": "a mark on a test",
    "sweep.race.race.Race.requests": "a copy of a test client",
    "test.IntegrationMixin._set_up_test_data": "our own test cases",
    "test._Data.__get__": "our own test cases",
    "timeline.core.note_origin": "a mark on a thread",
    "timeline.core.own": "a mark on a thread",
    "postgres.routing.kept.give": "a mark on a connection",
    "timeline.sql._note_setting": "a mark on a connection",
    "timeline.transactions.blocks_of": "a mark on a connection",
    "timeline.transactions.forget": "a mark on a connection",
    "timeline.transactions.check_left_open": "a mark on a connection",
}
PRODUCT = "fakes."
"""The package that replaces methods of the project's own backends: that is what it is for."""

TOOLS = {"delattr", "object.__setattr__", "setattr", "type.__delattr__", "type.__setattr__"}
WRAPPERS = {"_replaced", "wrapped"}


def imported_from_elsewhere(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("itkit"):
            names |= {alias.asname or alias.name for alias in node.names}
    return names - {"itkit"}


def root_of(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def targets_of(node: ast.AST) -> Iterator[ast.expr]:
    match node:
        case ast.Assign(targets=targets) | ast.Delete(targets=targets):
            pass
        case ast.AnnAssign(target=target) | ast.AugAssign(target=target):
            targets = [target]
        case _:
            return
    for target in targets:
        yield from target.elts if isinstance(target, ast.Tuple) else [target]


def changes_others(target: ast.expr, imported: set[str]) -> bool:
    if not isinstance(target, ast.Attribute | ast.Subscript):
        return False
    root, text = root_of(target), ast.unparse(target)
    if root in imported or "vars(" in text or "__dict__" in text or text.endswith(".__class__"):
        return True
    return isinstance(target, ast.Attribute) and (
        (target.attr.startswith("_") and root not in {"self", "cls"})
        or isinstance(target.value, ast.Subscript)
    )


def called_by(node: ast.Call) -> str:
    match node.func:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id=owner), attr=name):
            return f"{owner}.{name}"
    return ""


def is_change(node: ast.AST, imported: set[str]) -> bool:
    if isinstance(node, ast.Call):
        called = called_by(node)
        if called in TOOLS:
            return not (isinstance(node.args[0], ast.Name) and node.args[0].id == "self")
        return called in WRAPPERS
    return any(changes_others(target, imported) for target in targets_of(node))


def functions_with_changes(
    node: ast.AST, place: str, imported: set[str]
) -> Iterator[tuple[str, str]]:
    """Yield the outermost function of each change, and its docstring."""
    for child in ast.iter_child_nodes(node):
        name = f"{place}.{child.name}" if isinstance(child, DEFINED) else place
        if isinstance(child, FUNCTIONS):
            if any(is_change(inner, imported) for inner in ast.walk(child)):
                yield name, ast.get_docstring(child) or ""
        else:
            if is_change(child, imported):
                yield place, ""
            yield from functions_with_changes(child, name, imported)


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINED = (*FUNCTIONS, ast.ClassDef)


@cache
def found() -> dict[str, str]:
    places: dict[str, str] = {}
    for path in ROOT.rglob("*.py"):
        tree = ast.parse(path.read_text())
        parts = path.relative_to(ROOT).with_suffix("").parts
        module = ".".join(part for part in parts if part != "__init__")
        places |= functions_with_changes(tree, module, imported_from_elsewhere(tree))
    return {place: text for place, text in places.items() if not place.startswith(PRODUCT)}


def test_each_change_of_others_is_in_a_list() -> None:
    assert sorted(found()) == sorted({*PATCHES, *OTHERS})


def test_each_monkeypatch_says_with_which_versions_it_was_checked() -> None:
    places = found()
    silent = [place for place in PATCHES if "Checked with " not in " ".join(places[place].split())]
    assert silent == []


def test_the_search_finds_each_kind_of_change() -> None:
    source = """
import os
from django.conf import settings
def attribute(): os._exit = print
def item(): os.environ["A"] = "b"
def deep(): settings._wrapped.A = 1
def private(found): found._counter = 1
def of_one(found, name): found[name].method = 1
def by_vars(found): vars(found)["a"] = 1
def by_class(found): found.__class__ = int
def by_tool(found): setattr(found, "a", 1)
def wrapping(): wrapped(os, "stat", print)
async def nested():
    def inner(): del os.environ["A"]
class Own:
    def own(self): self._a = self.b = 1
    def harmless(self, other): other.public = 1; names = {}; names["a"] = 1
"""
    tree = ast.parse(source)
    places = [
        place for place, _ in functions_with_changes(tree, "m", imported_from_elsewhere(tree))
    ]
    assert places == [
        *("m.attribute", "m.item", "m.deep", "m.private", "m.of_one", "m.by_vars"),
        *("m.by_class", "m.by_tool", "m.wrapping", "m.nested"),
    ]


def test_what_is_listed_can_be_imported() -> None:
    for place in PATCHES:
        parts = place.split(".")
        at = next(index for index, part in enumerate(parts) if is_no_module(parts, index, part))
        importlib.import_module(f"itkit.{'.'.join(parts[:at])}")


def is_no_module(parts: list[str], index: int, part: str) -> bool:
    path = ROOT.joinpath(*parts[: index + 1])
    return not (path.with_suffix(".py").exists() or path.is_dir())

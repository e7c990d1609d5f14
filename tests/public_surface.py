"""The public surface of itkit in lines of text: names with signatures, settings, checks, options.

``tests/public_surface.txt`` has the committed lines, so that a change of the surface shows in a
review. A change that is meant is written there by ``python -m tests.public_surface``.
"""

import dataclasses
import importlib
import inspect
import os
import re
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _pytest.config.argparsing import Parser

FILE = Path(__file__).with_suffix(".txt")
MODULES = (
    *("itkit", "itkit.test", "itkit.runner", "itkit.data", "itkit.fakes"),
    "itkit.pytest_plugin",
    "itkit.pytest_plugin.plugin",
)


def lines() -> list[str]:
    """Return the surface as it is, a name on each line."""
    return [
        *(line for module in MODULES for line in names_of(module)),
        *settings(),
        *checks(),
        *options(),
    ]


def names_of(module: str) -> Iterator[str]:
    loaded = importlib.import_module(module)
    public = getattr(loaded, "__all__", None) or [
        name
        for name, value in vars(loaded).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module
    ]
    for name in sorted(public):
        yield from described(f"{module}.{name}", getattr(loaded, name))


def described(name: str, value: Any) -> Iterator[str]:
    if not inspect.isclass(value):
        yield f"{name}{signature(value)}" if callable(value) else name
        return
    bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
    yield f"class {name}({bases})"
    if "__init__" in vars(value):
        yield f"  {name}{signature(value.__init__)}"
    for member in sorted(members_of(value)):
        found = inspect.getattr_static(value, member)
        if isinstance(found, property):
            yield f"  {name}.{member}: property"
        elif callable(found) or isinstance(found, classmethod | staticmethod):
            yield f"  {name}.{member}{signature(getattr(value, member))}"
        else:
            yield f"  {name}.{member}: value"


def members_of(kind: type) -> set[str]:
    """Return the public names of a class that are itkit's, and not those of Django or Python."""
    return {
        name
        for base in kind.__mro__
        if base.__module__.startswith("itkit")
        for name in vars(base)
        if not name.startswith("_")
    }


def signature(value: Any) -> str:
    try:
        text = str(inspect.signature(value))
    except ValueError:  # a class of Python's own has none
        return "(...)"
    # Where a type is defined is no part of the surface.
    return re.sub(r" at 0x[0-9a-f]+|\b(?:[a-z]\w*\.)+(?=[A-Z_])", "", text)


def settings() -> Iterator[str]:
    from itkit import conf

    pending = [("ITKIT", conf.Settings)]
    while pending:
        prefix, table = pending.pop(0)
        for item in sorted(dataclasses.fields(table), key=lambda field: field.name):
            inner = inspect.unwrap(item.type) if inspect.isclass(item.type) else None
            if inner is not None and dataclasses.is_dataclass(inner):
                pending.append((f'{prefix}["{item.name.upper()}"]', inner))
                continue
            yield f'setting {prefix}["{item.name.upper()}"] = {default_of(item)}'


def default_of(item: "dataclasses.Field[Any]") -> str:
    if item.default is not dataclasses.MISSING:
        return repr(item.default)
    if item.default_factory is not dataclasses.MISSING:
        return repr(item.default_factory())
    return "(required)"


def checks() -> Iterator[str]:
    """Yield the ids of the system checks, as the page about troubles has them."""
    page = Path(__file__).parent.parent.joinpath("docs", "troubleshooting.md").read_text()
    yield from (f"check {found}" for found in sorted(set(re.findall(r"itkit\.[EW]\d{3}", page))))


def options() -> Iterator[str]:
    from django.test.runner import DiscoverRunner

    from itkit import pytest_plugin
    from itkit.runner import IntegrationRunner

    parser = ArgumentParser(add_help=False)
    IntegrationRunner.add_arguments(parser)
    usual = ArgumentParser(add_help=False)
    DiscoverRunner.add_arguments(usual)
    flags = [
        {flag for action in of._actions for flag in action.option_strings} for of in (parser, usual)
    ]
    yield from (f"manage.py test {flag}" for flag in sorted(flags[0] - flags[1]))
    pytest_parser = Parser(_ispytest=True)
    pytest_plugin.pytest_addoption(pytest_parser)
    added = [option for group in pytest_parser._groups for option in group.options]
    yield from (f"pytest {name}" for name in sorted(name for of in added for name in of.names()))


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    importlib.import_module("django").setup()
    FILE.write_text("\n".join(lines()) + "\n")

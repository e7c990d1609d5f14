"""The public names: listed, documented, and nothing else in sight."""

import importlib
import inspect
import sys

import pytest

import itkit
from itkit import exceptions
from tests import public_surface


def test_the_package_exports_its_list_and_nothing_else() -> None:
    assert itkit.__all__ == sorted(itkit.__all__)
    public = {
        name
        for name in {*vars(itkit), *itkit.__all__}
        if not name.startswith("_") and not inspect.ismodule(getattr(itkit, name))
    }
    assert public - {"import_module", "TYPE_CHECKING"} == set(itkit.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        itkit.nonsense  # noqa: B018 - looking it up is the test


@pytest.mark.parametrize(
    "module",
    [
        "itkit",
        "itkit.test",
        "itkit.services",
        "itkit.postgres",
        "itkit.redis",
        "itkit.fakes",
        "itkit.data",
    ],
)
def test_every_exported_name_exists_and_is_documented(module: str) -> None:
    loaded = importlib.import_module(module)
    for name in loaded.__all__:
        value = getattr(loaded, name)
        assert inspect.getdoc(value), f"{module}.{name}"


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawing = exceptions.__doc__ or ""
    for name, error in inspect.getmembers(exceptions, inspect.isclass):
        if error.__module__ == exceptions.__name__:
            assert name in drawing
            assert issubclass(error, exceptions.ItkitError)


def test_mistakes_of_a_tests_author_are_failures_not_errors() -> None:
    for error in exceptions.TestError.__subclasses__():
        assert issubclass(error, AssertionError)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="signatures are printed otherwise there")
def test_the_surface_is_the_committed_one() -> None:
    found = public_surface.lines()
    assert len(found) > 400
    assert found == public_surface.FILE.read_text().splitlines(), (
        "If the change is meant: python -m tests.public_surface, and commit what it writes."
    )

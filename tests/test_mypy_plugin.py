"""mypy with the plugin knows the methods of a handle."""

import sys
from pathlib import Path

import pytest

import itkit
from tests.support.projects import Project

CODE = """
    from typing import reveal_type

    from itkit import TestContainer
    from itkit.backends.registry import Registry


    class Base:
        def ping(self) -> None: ...


    class Stripe(Base):
        key: str

        def charge(self, amount: int) -> None: ...


    def use(backends: Registry, container: TestContainer) -> None:
        reveal_type(backends[Stripe].charge)
        backends[Stripe].ping.returns("pong")
        backends[Stripe].key.returns("sk")
        backends[Stripe].get_calls("charge")
        backends[Stripe].chrge.returns("txn")
        container.get_mock(Stripe).refund.returns("txn")
        backends.payments.whatever.returns("untyped")
        container.get_mock("payments").whatever.returns("untyped")
"""

# What itkit imports of these takes half of the time, and says nothing of its handles.
LIBRARIES = ("django", "factory", "model_bakery", "psycopg", "redis")


@pytest.mark.slow
def test_a_method_that_the_class_lacks_is_an_error(project: Project):
    project.write("use.py", CODE)
    others = "".join(f"[mypy-{name}.*]\nfollow_imports = skip\n" for name in LIBRARIES)
    settings = f"[mypy]\nplugins = itkit.mypy_plugin\nstrict = True\n{found()}{others}"
    project.write("mypy.ini", settings)
    result = project.run("-m", "mypy", "use.py")

    lines = result.output.splitlines()
    assert lines[:3] == [
        'use.py:19: note: Revealed type is "itkit.fakes.handles.MethodHandle"',
        "use.py:23: error: Stripe has no method 'chrge'. Did you mean 'charge'?  [misc]",
        "use.py:24: error: Stripe has no method 'refund'. Available: charge, key, ping.  [misc]",
    ], result.output
    assert lines[3].startswith("Found 2 errors in 1 file"), result.output


def found():
    """Have mypy find the checkout, of which it knows nothing by an editable installation."""
    path = Path(itkit.__file__).parents[1]
    if path.name == "site-packages":
        return ""
    return f"mypy_path = {path}\nfollow_imports = silent\n"


def test_the_plugin_is_imported_by_mypy_alone():
    assert "itkit.mypy_plugin" not in sys.modules

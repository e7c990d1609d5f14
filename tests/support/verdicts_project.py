"""How the tests of verdicts read a run: each test of a project says by its name how it must end."""

import re

from tests.support.doors import enter, write_tests
from tests.support.projects import Project, Result

APP = """
    import threading

    from shop.gateways import Stripe, send_sms


    def pay():
        return Stripe().charge(5, "tok") + "!"


    def pay_and_swallow():
        try:
            return pay()
        except Exception:
            return None


    def call(function):
        try:
            return function()
        except Exception:
            return None


    def call_wrongly():
        try:
            Stripe().charge(5)
        except Exception:
            pass
"""


def judged(
    door: str, project: Project, tests: str, *args: str, app: str = APP, **env: str
) -> Result:
    """Run tests under a door, and find that exactly those have failed that are called ``red``."""
    project.write("shop/app.py", app)
    write_tests(project, tests)
    options = ["-rfE"] if "pytest" in door else []
    result = enter(door, project, *options, *args, **env)
    wanted = set(re.findall(r"def (test_\w*red_\w+)\(", tests))
    assert not failed(result) ^ wanted, f"{failed(result) ^ wanted}\n{result.output}"
    assert result.code == (1 if wanted else 0), result.output
    return result


def failed(result: Result) -> set[str]:
    """Return the names of the tests that a runner reports as failed or as errors."""
    of_django = re.findall(r"^(?:FAIL|ERROR): (?:[\w.]*\.)?(\w+)", result.output, re.MULTILINE)
    of_pytest = re.findall(r"^(?:FAILED|ERROR) \S*::(\w+)", result.output, re.MULTILINE)
    return {*of_django, *of_pytest}


def section(output: str, test: str) -> str:
    """Return what a runner prints of a failed test, given by the name of its function."""
    of_pytest = rf"^_+ [^\n]*\b{re.escape(test)} _+\n"
    of_django = rf"^(?:FAIL|ERROR): [^\n]*\b{re.escape(test)}\b[^\n]*\n"
    found = re.search(f"(?:{of_pytest}|{of_django})(.*?)(?=^(?:_+ |=====|-+\nRan))", output,
                      re.MULTILINE | re.DOTALL)  # fmt: skip
    assert found, f"{test} has not failed:\n{output}"
    return found[1]

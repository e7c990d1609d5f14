"""Where the errors that itkit finds after a test are shown, and how."""

import re

import pytest

from tests.support import race_zoo
from tests.support.doors import DOORS, enter
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

APP = """
    import logging

    logger = logging.getLogger("shop")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False

    def note(*texts):
        logger.warning(" ".join(texts))
"""

TESTS = """
    from django.core.cache import cache

    from itkit import sweep
    from itkit.test import IntegrationTestCase
    from shop import app
    from shop.gateways import Stripe


    class Tests(IntegrationTestCase):
        def test_leak(self):
            job = self.data.bystander("shop.Job")
            app.note(job.name, "\\x00\\x1b[31m", job.done_by)

        def test_plain(self):
            Stripe().charge(5, "\\x00")
            cache.set("a\\x1bb", 1)
            self.fail("here")

        @sweep.faults
        def test_swept(self, fault):
            with fault.injected():
                Stripe().charge(5, "tok")
            self.assertFalse(fault.has_failed)
"""
LINES = {"test_leak": "11", "test_plain": "18", "test_swept": "20"}


@pytest.mark.parametrize("door", DOORS)
def test_a_finding_is_shown_at_its_test(door: str, project: Project) -> None:
    race_zoo.write(project)
    project.go_on_after_warnings()
    (project.path / "shop/tests/test_zoo.py").unlink()
    project.write("shop/app.py", APP)
    project.write("shop/tests/test_shop.py", TESTS)
    quiet = ["--show-capture=no"] if door.startswith("pytest") else []
    result = enter(door, project, "--itkit-report-format=github", "--itkit-report=pages", *quiet)
    lines = [line for line in result.output.splitlines() if line.startswith("::error ")]
    places = [re.match(r"::error file=(.*),line=(\d+),title=.*(test_\w+)::", one) for one in lines]
    assert {one and one.groups() for one in places} == {
        ("shop/tests/test_shop.py", line, test) for test, line in LINES.items()
    }, result.output
    assert len(lines) == len(LINES), lines
    before, _, found = result.output.partition("LeakedMarkError: ")
    heading = before.rpartition("test_leak")[2]
    assert "Traceback" not in heading, result.output
    assert "itkit/" not in heading, result.output
    found = found.partition("timeline of the test")[0]
    assert found.count("has turned up in a record of log shop at shop/app.py:9 in note") == 2, found
    assert found.count("The values of a bystander stay in its own row.") == 1, found
    assert r"\x00\x1b[31m" in found, found
    assert re.search(r"#2  SET \S*a\\x1bb", result.output), result.output
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", result.output), result.output
    pages = [page.read_text() for page in (project.path / "pages").rglob("*.html")]
    assert any(r"SET :1:a\x1bb" in page for page in pages)
    assert any(r"canary" in page and r"\x00\x1b[31m" in page for page in pages)

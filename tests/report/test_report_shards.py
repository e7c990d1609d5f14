"""The report in CI: pages of all tests, those of shards in one folder, GitHub, and JUnit."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from itkit.report import annotation, annotation_of
from tests.support.doors import DOORS, enter, write_tests
from tests.support.projects import Project

TESTS = """
    from itkit.test import IntegrationTestCase
    from shop import gateways
    from shop.models import Customer


    class Tests(IntegrationTestCase):
        def test_passes(self):
            Customer.objects.create(email="a@example.org")

        def test_is_skipped(self):
            Customer.objects.create(email="c@example.org")
            self.skipTest("for now")

        def test_fails(self):
            Customer.objects.create(email="b@example.org")
            gateways.send_sms("1", "100 %: a, b")
            self.assertEqual(1, 2, "one is\\nnot two; password=hunter2222")

        def test_is_broken(self):
            raise RuntimeError("broken")

        def test_fails_in_its_clean_up(self):
            self.addCleanup(lambda: 1 / 0)
"""
FAILING = ["test_fails", "test_fails_in_its_clean_up", "test_is_broken"]


@pytest.fixture
def failing(project: Project) -> Project:
    write_tests(project, TESTS)
    return project


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize("door", DOORS)
def test_all_tests_have_pages_and_failures_are_annotated(door: str, failing: Project) -> None:
    result = enter(door, failing, "--itkit-report-all", "--itkit-report-format=github")

    assert result.code == 1
    folder = failing.path / "itkit-report"
    pages = {page.stem: page.read_text() for page in folder.glob("*.html")}
    index = pages.pop("index").replace("<wbr>", "")  # where a browser may break a name
    assert len(pages) == 4, sorted(pages)
    (passed,) = (html for html in pages.values() if "The test has passed." in html)
    assert "INSERT shop_customer" in passed
    assert "test_passes" in passed
    assert "3 failures" in index
    assert index.count("<tr>") == 5
    assert re.search(r"test_passes</a></td>\s*<td[^>]*><span[^>]*>passed", index)

    lines = [line for line in result.output.splitlines() if line.startswith("::error ")]
    assert len(lines) == 3, result.output
    (line,) = (line for line in lines if re.search(r"test_fails::", line))
    assert re.match(r"::error file=shop/tests/test_shop.py,line=18,title=[^:,]*test_fails::", line)
    assert "one is%0Anot two" in line
    assert "INSERT shop_customer" in line
    assert "100 %25" in line
    assert "hunter2222" not in line
    (line,) = (line for line in lines if re.search(r"test_is_broken::", line))
    assert ",line=21,title=" in line


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.slow
def test_the_reports_of_shards_become_one(failing: Project) -> None:
    one = failing.pytest("--integration", "--itkit-report=one", "-k", "fails or broken")
    two = failing.pytest("--integration", "--itkit-report=two", "-k", "test_is_broken")
    assert one.code == two.code == 1

    merged = failing.manage("itkit", "report", "merge", "one", "two", "--to=both")

    assert merged.code == 0, merged.output
    index = failing.path / "both/index.html"
    assert f"4 pages in {index.as_uri()}" in merged.output
    assert "4 failures" in index.read_text()
    links = re.findall(r'<td><a href="([^"]+)"', index.read_text())
    assert len(set(links)) == 4
    assert all((index.parent / link).exists() for link in links)
    for arguments, message in [
        (("one", "--to=one"), "is one of the reports"),
        (("shop", "--to=new"), "shop is no report"),
        (("one", "--to=shop"), "has other files in it"),
    ]:
        refused = failing.manage("itkit", "report", "merge", *arguments)
        assert refused.code == 1
        assert message in refused.output, refused.output


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.slow
def test_junit_has_the_timeline_of_a_failure(failing: Project) -> None:
    failing.pytest("--integration", "--junitxml=out.xml", "-n", "2")
    cases = {
        case.get("name"): case
        for case in ElementTree.parse(failing.path / "out.xml").iter("testcase")
    }
    _check_cases(cases)

    failing.settings('TEST_RUNNER = "xmlrunner.extra.djangotestrunner.XMLTestRunner"')
    failing.settings('TEST_OUTPUT_DIR = "xml"')
    failing.test("--integration")
    files = list((failing.path / "xml").glob("*.xml"))
    assert files
    cases = {
        case.get("name"): case
        for file in files
        for case in ElementTree.parse(file).iter("testcase")
    }
    _check_cases(cases)


def _check_cases(cases: dict[str | None, ElementTree.Element]) -> None:
    assert set(FAILING) < cases.keys()
    output = cases["test_fails"].findtext("system-out") or ""
    assert "INSERT shop_customer" in output
    assert "sms" in output
    assert "--itkit-seed=" in output
    assert "INSERT" not in (cases["test_passes"].findtext("system-out") or "")


def test_what_github_takes_for_signs_is_escaped() -> None:
    here = Path.cwd() / "a,b:c.py"
    assert annotation("t::x,y", "50 %\r\nnext", str(here), 3) == (
        "::error file=a%2Cb%3Ac.py,line=3,title=t%3A%3Ax%2Cy::50 %25%0D%0Anext"
    )
    assert annotation("t", "m", "", 0) == "::error title=t::m"


def test_an_annotation_is_at_the_last_line_of_the_user_s_own() -> None:
    text = (
        "Traceback (most recent call last):\n"
        f'  File "{Path.cwd()}/shop/tests.py", line 5, in test\n'
        "    pay()\n"
        f'  File "{pytest.__file__}", line 9, in fail\n'
        "    raise X\n"
        "    ^^^^^^^\n"
        "X: no money\nmore"
    )
    assert (
        annotation_of("t", text) == "::error file=shop/tests.py,line=5,title=t::X: no money%0Amore"
    )
    assert annotation_of("t", "no traceback") == "::error title=t::no traceback"

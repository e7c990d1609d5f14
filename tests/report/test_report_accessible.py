"""The pages of the report in a browser: axe-core finds nothing serious, in light and in dark."""

import html
import json
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support.doors import write_tests
from tests.support.projects import Project

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
AXE = find_spec("axe_core_python")
TESTS = """
    from django.core import mail
    from django.core.cache import cache
    from django.db import transaction

    from itkit.test import IntegrationTestCase
    from shop import gateways
    from shop.models import Customer


    class Tests(IntegrationTestCase):
        def test_all_kinds(self):
            self.backends.sms.raises(ConnectionError("down"), times=1)
            with transaction.atomic():
                Customer.objects.create(email="ada@example.org")
                transaction.on_commit(lambda: cache.set("seen", 1))
            for number in range(4):
                Customer.objects.filter(pk=number).first()
            mail.send_mail("Welcome", "Hello Ada", "shop@example.org", ["ada@example.org"])
            with self.assertRaises(ConnectionError):
                gateways.send_sms("1", "hello")
            self.fail("at the end")

        def test_passes(self):
            Customer.objects.create(email="b@example.org")

        def test_sends_nothing(self):
            self.fail("at once")
"""
RUN = """
<script>%s</script>
<script>
axe.run({resultTypes: ["violations"]}).then((found) => {
  const result = document.createElement("pre");
  result.id = "axe";
  result.textContent = JSON.stringify(found.violations.map(
    (one) => [one.impact, one.id, one.nodes.map((node) => node.html).slice(0, 3)]));
  document.body.replaceChildren(result);
});
</script>
"""
DARK = "--blink-settings=preferredColorScheme=0"


@pytest.mark.slow  # a browser for each page
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.skipif(AXE is None, reason="axe-core-python is not installed")
@pytest.mark.usefixtures("shared_servers")
def test_axe_finds_no_serious_violation(project: Project, tmp_path: Path) -> None:
    project.go_on_after_warnings()  # Django 6.1 warns of EMAIL_BACKEND when a mail is sent
    write_tests(project, TESTS)
    project.test("--integration", "--itkit-report-all", "--itkit-coverage")
    pages = [
        *sorted((project.path / "itkit-report").glob("*.html")),
        project.path / "itkit-coverage/index.html",
    ]
    assert len(pages) == 5

    found = {
        (page.name, *options): violations
        for page in pages
        for options in ((), (DARK,))
        if (violations := [one for one in violations_in(page, tmp_path, *options) if is_bad(one)])
    }
    assert not found

    bad = tmp_path / "bad.html"
    bad.write_text("<html><body><img src='data:,'><p style='color:#eee'>pale</p></body></html>")
    assert [one for one in violations_in(bad, tmp_path) if is_bad(one)]


def is_bad(violation: list[Any]) -> bool:
    return violation[0] in ("serious", "critical")


def violations_in(page: Path, tmp_path: Path, *options: str) -> list[list[Any]]:
    """Return what axe finds in a page: impact, rule, and the elements."""
    assert CHROMIUM is not None
    assert AXE is not None
    (directory,) = AXE.submodule_search_locations or ()
    axe = (Path(directory) / "axe.min.js").read_text()
    copy = tmp_path / f"copy-{page.name}"
    copy.write_text(page.read_text().replace("</body>", f"{RUN % axe}</body>"))
    shown = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *(f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=60000"),
            *("--window-size=1600,900", *options, "--dump-dom", copy.as_uri()),
        ],
        capture_output=True,
        check=True,
        text=True,
        timeout=300,
    )
    result = re.search(r'<pre id="axe">(.*?)</pre>', shown.stdout, re.DOTALL)
    assert result is not None, shown.stderr
    violations: list[list[Any]] = json.loads(html.unescape(result[1]))
    return violations

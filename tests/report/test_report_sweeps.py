"""The page of a swept test: one, with the grid of its variations and the columns of its acts."""

import re
from pathlib import Path

import pytest

from tests.report.test_report import Page
from tests.support.doors import DOORS, enter, write_tests
from tests.support.projects import Project

TESTS = """
    from functools import partial

    from itkit import sweep
    from itkit.test import IntegrationTestCase
    from shop.gateways import Stripe
    from shop.models import Customer


    def sign_up():
        Stripe().charge(5, token="tok_visa")
        Customer.objects.create(email="ada@example.org")


    def sign_up_first(email):
        if not Customer.objects.exists():
            Customer.objects.create(email=email)


    class Swept(IntegrationTestCase):
        @sweep.faults
        def test_who_has_paid_is_a_customer(self, fault):
            self.backends.payments.charge.returns("txn_1")
            with fault.injected():
                sign_up()
            self.assertEqual(len(fault.done(self.backends.payments.charge)), Customer.objects.count())

        @sweep.races
        def test_only_one_is_first(self, race):
            acts = [partial(sign_up_first, f"<b>{name}@example.org") for name in ("ann", "bob")]
            race(*acts)

        @sweep.repeats
        def test_nobody_pays_twice(self, repeat):
            self.backends.payments.charge.returns("txn_1")
            repeat(Stripe().charge, 5, token="tok_visa")
            repeat.assert_idempotent()

        @sweep.faults
        def test_passes(self, fault):
            with fault.injected():
                Customer.objects.create(email="b@example.org")
"""

pytestmark = pytest.mark.usefixtures("shared_servers")


def cells(html: str, table: str) -> list[list[str]]:
    """Return the texts of the cells of a table, by row."""
    (body,) = re.findall(rf'<table class="{table}">.*?<tbody>(.*?)</tbody>', html, re.DOTALL)
    return [
        re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)
        for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    ]


def pages(folder: Path) -> dict[str, str]:
    """Return the pages of the tests by the names of the tests."""
    found = [file for file in sorted(folder.glob("*.html")) if file.name != "index.html"]
    names = [
        re.sub(r".*(test_[a-z_]+).*", r"\1", file.stem.replace("test_shop", "")) for file in found
    ]
    assert len(set(names)) == len(names), names  # one for each test, whatever it was swept with
    return {name: file.read_text() for name, file in zip(names, found, strict=True)}


@pytest.mark.parametrize("door", DOORS)
def test_a_swept_test_has_one_page_with_its_variations(door: str, project: Project) -> None:
    write_tests(project, TESTS)
    result = enter(door, project, "--itkit-report=report")
    assert result.code == 1, result.output
    found = pages(project.path / "report")
    assert set(found) == {
        "test_who_has_paid_is_a_customer",
        "test_only_one_is_first",
        "test_nobody_pays_twice",
    }
    for file in (project.path / "report").glob("*.html"):
        if file.name != "index.html":
            assert result.output.count(f"its page: {file.as_uri()}") == 1, result.output

    paid = found["test_who_has_paid_is_a_customer"]
    rows = {name: (line, outcomes) for name, *outcomes, line in cells(paid, "grid")}
    heads = re.findall(r'<th scope="col">([^<]+)</th>', paid.partition('class="grid"')[2])
    heads = heads[1 : heads.index("line")]
    (line, of_charge), (_, of_insert) = rows["payments.charge#1"], rows["INSERT shop_customer#1"]
    assert "shop/tests/test_shop.py" in line
    charge = dict(zip(heads, of_charge, strict=True))
    insert = dict(zip(heads, of_insert, strict=True))
    assert charge["lost_reply"] == "failed"  # it is charged, and the act has ended
    assert insert["OperationalError"] == "failed"
    assert "passed" in charge.values()  # an error before it is charged
    failed = sum(outcome == "failed" for _, outcomes in rows.values() for outcome in outcomes)
    tried = failed + sum(outcome == "passed" for _, out in rows.values() for outcome in out)
    assert f"does not survive {failed} of the {tried} faults that were tried." in paid
    assert "--itkit-fault" in Page(paid).text
    assert "Not tried: " in paid

    race = found["test_only_one_is_first"]
    schedules = {name: outcome for name, outcome, _ in cells(race, "grid")}
    assert schedules["1,0"] == "passed"
    assert "failed" in schedules.values()
    *steps, ends = cells(race, "columns")
    assert all(sum(map(bool, step)) == 1 for step in steps)
    assert {index for step in steps for index, cell in enumerate(step) if cell} == {0, 1}
    assert all(ends)
    assert sum("INSERT shop_customer" in cell for step in steps for cell in step) == 2
    assert "--itkit-schedule" in Page(race).text

    assert [row[0] for row in cells(found["test_nobody_pays_twice"], "grid")] != []


def test_what_bounds_leave_out_is_not_tried(project: Project) -> None:
    project.settings('ITKIT["SWEEP"] = {"VARIATIONS": 2}\nITKIT["REPORT"] = {"DIR": "report"}')
    write_tests(project, TESTS)
    project.pytest("--integration", "-k", "who_has_paid")
    (paid,) = pages(project.path / "report").values()
    outcomes = [outcome for _, *row, _ in cells(paid, "grid") for outcome in row]
    assert outcomes.count("not tried") > 0
    assert len([one for one in outcomes if one in ("passed", "failed")]) == 2

    fault = "INSERT shop_customer#1:OperationalError"
    project.pytest("--integration", "-k", "who_has_paid", "--itkit-fault", fault)
    (alone,) = pages(project.path / "report").values()
    assert 'class="grid"' not in alone
    assert "--itkit-fault" in Page(alone).text

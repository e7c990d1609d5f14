"""Random values repeat: by the seed and the index that a failure prints, whoever else runs."""

import importlib
import json
import os
import random
import re
import shlex
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from itkit.core import seed
from itkit.core.seed import Seed
from itkit.exceptions import ConfigurationError
from tests.support.doors import DOORS, SERIAL, enter, write_tests
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("5f3a9c01", ("5f3a9c01", (0,))),
        ("5f3a9c01:17", ("5f3a9c01", (17,))),
        ("7:0,12,3", ("7", (0, 12, 3))),
    ],
)
def test_a_seed_is_read_and_written(given, expected):
    read = Seed.parse(given)
    assert read == expected
    assert Seed.parse(str(read)) == read


def test_without_a_seed_there_is_a_new_one():
    assert Seed.parse(None) != Seed.parse(None)


@pytest.mark.parametrize("given", [":5", "a b", "a:b", "a:-1", "a:1,", "a" * 33, "a:1234567890"])
def test_what_is_no_seed_is_told(given):
    with pytest.raises(ConfigurationError, match="expected letters and digits"):
        Seed.parse(given)


def test_indexes_are_in_the_order_of_the_names_whatever_that_of_the_tests():
    one = Seed("s")
    assert one.numbered(["b", "a", "c"], []) == one.numbered(["c", "b", "a"], [])
    assert Seed("s", (17,)).numbered(["b"], ["b"]) == {"b": 17}


def test_indexes_can_be_those_of_the_tests_that_are_named():
    several = Seed("s", (17, 3))
    assert several.numbered(["a", "b", "c"], ["c", "a"]) == {"c": 17, "a": 3, "b": 18}
    assert seed.in_order("abc", "ca", str) == ["c", "a", "b"]


def test_tests_and_what_they_share_have_parts_of_their_own():
    offsets = {seed.offset_of_test(index) for index in range(2**15)}
    assert len(offsets) == 2**15
    assert max(offsets) + 2**16 <= min(seed.offset_of_shared(name) for name in ("", "a", "b"))
    assert all(seed.offset_of_shared(str(n)) + 2**16 <= 2**32 for n in range(1_000))


def test_the_generators_repeat():
    import factory.fuzzy
    from faker import Faker
    from model_bakery import random_gen

    def values(given="a"):
        seed.reseed(given, "test")
        return (
            random.random(),
            Faker().name(),
            factory.fuzzy.FuzzyInteger(0, 10**9).fuzz(),
            factory.Faker("email").evaluate(None, None, {"locale": None}),
            random_gen.gen_integer(0, 10**9),
        )

    assert values() == values()
    assert not {*values("a")} & {*values("b")}
    state = random.getstate()
    seed.reseed("a", "other")
    assert random.getstate() != state


TESTS = """
    import json
    import os
    import random

    from itkit.test import IntegrationTestCase


    def write(test, data):
        values = [random.random(), data.unique.email(), data.unique.text(3)]
        with open(os.environ["VALUES"], "a") as file:
            file.write(json.dumps([test, values]) + "\\n")


    class First(IntegrationTestCase):
        def test_a(self):
            write("First.test_a", self.data)

        def test_b(self):
            write("First.test_b", self.data)
            self.fail("to see how it is repeated")


    class Second(IntegrationTestCase):
        def test_a(self):
            random.random()
            write("Second.test_a", self.data)
"""


@pytest.mark.parametrize("door", DOORS)
def test_a_run_and_a_test_are_repeated_by_what_a_failure_prints(door, project: Project):
    write_tests(project, TESTS)
    whole = run(door, project, "whole")
    assert whole["values"].keys() == {"First.test_a", "First.test_b", "Second.test_a"}
    drawn = [value for values in whole["values"].values() for value in values[1:2]]
    assert len(set(drawn)) == 3

    printed = re.search(
        r"to repeat it: (?:python\S* )?(manage\.py|pytest) (.* (--itkit-seed=\w+).*)",
        whole["output"],
    )
    assert printed, whole["output"]
    file = project.path / "alone"
    command = ["manage.py"] if printed[1] == "manage.py" else ["-m", "pytest"]
    project.run(*command, *shlex.split(printed[2]), VALUES=str(file))
    assert read(file) == {"First.test_b": whole["values"]["First.test_b"]}

    another_order = {"django": ["--shuffle"], "pytest": ["-n", "2"]}.get(door, [])
    again = run(door.partition(",")[0], project, "again", printed[3], *another_order)
    assert again["values"] == whole["values"]


SEQUENCES = """
    import json
    import os

    import factory
    from itkit.test import IntegrationTestCase
    from shop.models import Customer


    class CustomerFactory(factory.django.DjangoModelFactory):
        class Meta:
            model = Customer

        email = factory.Sequence("{}@example.com".format)


    class VipFactory(CustomerFactory):
        pass


    class First(IntegrationTestCase):
        def test_a(self):
            emails = [CustomerFactory().email, VipFactory().email, CustomerFactory().email]
            with open(os.environ["VALUES"], "a") as file:
                file.write(json.dumps([self.id(), emails]) + "\\n")

        test_b = test_c = test_a


    class Second(First):
        pass
"""


@pytest.mark.parametrize("door", SERIAL)
def test_sequences_can_begin_anew_in_each_test(door, project: Project):
    write_tests(project, SEQUENCES)
    project.settings('ITKIT["DATA"] = {"SEQUENCES": "test"}')
    whole = project.path / "whole"
    assert enter(door, project, VALUES=str(whole)).counts == {"passed": 6}
    values = read(whole)
    assert len({email for emails in values.values() for email in emails}) == 18

    alone = project.path / "alone"
    single = [*values][3].rpartition(".")[2]
    more = ["-k", f"Second and {single}"] if "pytest" in door else ["-k", f"Second.{single}"]
    index = f"--itkit-seed=a:{sorted(values).index(next(k for k in values if k.endswith('Second.' + single)))}"
    assert enter(door, project, index, *more, VALUES=str(alone)).counts == {"passed": 1}
    ((name, emails),) = read(alone).items()
    assert values[name] == emails


TIGHT = """
    from django.test import TestCase
    from itkit.test import IntegrationMixin, IntegrationTestCase
    from itkit.data import TestDataManager
    from model_bakery import baker
    from shop.models import Currency, Customer


    class RolledBack(IntegrationMixin, TestCase):
        @classmethod
        def setUpTestData(cls):
            cls.shared = TestDataManager()
            cls.shared.create_batch(Currency, 500)

        def test_a(self):
            self.data.create_batch(Currency, 2000)
            self.data.create_batch(Customer, 500, bulk="never")
            assert Currency.objects.count() == 2501  # with one of a migration

        test_b = test_c = test_d = test_a


    class Committed(IntegrationTestCase):
        def test_a(self):
            self.data.create_batch(Currency, 2000)
            self.data.create_batch(Customer, 500)
            assert Currency.objects.count() == 2001

        test_b = test_c = test_d = test_a
"""


@pytest.mark.parametrize("door", SERIAL)
@pytest.mark.slow
def test_tight_columns_do_not_collide_with_four_workers(door, project: Project):
    """2,501 of 46,656 values at once; ITKIT_TEST_RUNS is for more runs than CI can afford."""
    write_tests(project, TIGHT)
    parallel = ["--parallel", "4"] if door == "django" else ["-n", "4"]
    for _ in range(int(os.environ.get("ITKIT_TEST_RUNS", "1"))):
        result = enter(door, project, *parallel)
        assert result.counts == {"passed": 8}, result.output


def test_a_wrong_seed_stops_the_run_before_anything_starts(project: Project):
    write_tests(project, TESTS)
    for door in ("django", "pytest"):
        result = enter(door, project, "--itkit-seed=a b")
        assert result.code != 0
        assert "--itkit-seed is 'a b', expected letters and digits" in result.output
        assert "itkit: Postgres" not in result.output


def run(door, project, name, *arguments):
    file = project.path / name
    result = enter(door, project, *arguments, VALUES=str(file))
    assert result.counts == {"passed": 2, "failed": 1}, result.output
    return {"values": read(file), "output": result.output}


def read(file):
    return dict(json.loads(line) for line in file.read_text().splitlines())


def test_a_library_that_another_thread_is_importing_is_seeded_when_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "imported_slowly.py").write_text(
        "import random, sys\n"
        "sys.begun.set()\n"
        "assert sys.may_end.wait(30)\n"
        "generator = random.Random()\n"
    )
    begun, may_end = threading.Event(), threading.Event()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "begun", begun, raising=False)
    monkeypatch.setattr(sys, "may_end", may_end, raising=False)
    monkeypatch.setitem(
        seed._GENERATORS, "imported_slowly", lambda module: seed._methods(module.generator)
    )
    monkeypatch.setitem(seed._waiting, "imported_slowly", 7)
    with ThreadPoolExecutor(2) as pool:
        importing = pool.submit(importlib.import_module, "imported_slowly")
        assert begun.wait(30)
        seeding = pool.submit(seed.reseed_imported)
        try:
            with pytest.raises(TimeoutError):  # it waits, and raises no AttributeError
                seeding.result(0.2)
        finally:
            may_end.set()
        seeding.result(30)
        module = importing.result(30)
    del sys.modules["imported_slowly"]
    assert module.generator.random() == random.Random(7).random()


@pytest.mark.slow
def test_libraries_that_a_test_is_the_first_to_import_are_seeded(project: Project) -> None:
    project.warm = None  # a fork has imported some of them already
    project.write(
        "shop/factories.py",
        """
        import factory
        from django.contrib.auth.models import User

        class UserFactory(factory.django.DjangoModelFactory):
            class Meta:
                model = User

            username = factory.Sequence(str)
            first_name = factory.Faker("first_name")
        """,
    )
    write_tests(
        project,
        """
        from itkit.test import IntegrationTestCase

        class ByBakery(IntegrationTestCase):
            def test_1(self):
                print("VALUE", self.data.create("auth.Permission").name)

            def test_2(self):
                self.test_1()

        class ByFactory(IntegrationTestCase):
            def test_1(self):
                print("VALUE", self.data.create("auth.User").first_name)

            def test_2(self):
                self.test_1()
        """,
    )
    values = [
        re.findall(
            "VALUE (.+)", project.test("--integration", "--itkit-seed=5f3a9c01", *order).output
        )
        for order in ([], ["--reverse"])
    ]
    assert len(set(values[0])) == 4
    assert values[0] == values[1][::-1]

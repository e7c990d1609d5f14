"""The README and the docs, as a new user would follow them: commands, code, tables, links."""

import dataclasses
import re
from pathlib import Path

import pytest
from django.core.management import call_command

from itkit import checks, conf
from tests.support.projects import Project

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCS = {path.name: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
SETTINGS = DOCS["settings.md"]
BLOCKS = [
    block
    for page in (README, *DOCS.values())
    for block in re.findall(r"^```(\w+)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
]
PYTHON = [text for language, text in BLOCKS if language == "python"]
FILES = {text.split("\n")[0][2:]: text for text in PYTHON if text.startswith("# ")}
FRAGMENTS = [text for text in PYTHON if not text.startswith("# ")]

SHOP = {
    "shop/checkout.py": """
        from django.core.cache import cache
        from django.db import transaction

        from shop.gateways import CardDeclined, StripeGateway
        from shop.models import Order

        def checkout(customer, *, amount, token):
            order = Order.objects.create(customer=customer, status="pending")
            try:
                StripeGateway().charge(amount, token)
                order.status = "paid"
            except CardDeclined:
                order.status = "payment_failed"
            with transaction.atomic():
                order.save()
                transaction.on_commit(lambda: cache.set("last", order.pk))
            return order
    """,
    "shop/gateways.py": """
        class CardDeclined(Exception):
            pass

        class StripeGateway:
            def charge(self, amount: int, token: str) -> str:
                raise RuntimeError("the real gateway was called")
    """,
    "shop/di.py": """
        import svcs

        from shop.taxes import ITaxes, Taxes

        container = svcs.Registry()
        container.register_factory(ITaxes, Taxes)
    """,
    "shop/taxes.py": """
        class ITaxes:
            def rate(self) -> float: ...

        class Taxes(ITaxes):
            def rate(self) -> float:
                raise RuntimeError("the real taxes were asked")
    """,
    "shop/carriers.py": """
        class Dhl:
            def label(self, order: int) -> str:
                raise RuntimeError("the real carrier was called")
    """,
    "shop/sms.py": """
        def send_sms(number: str, text: str) -> None:
            raise RuntimeError("the real SMS gateway was called")
    """,
    "shop/models.py": """
        from django.conf import settings
        from django.db import models

        class Customer(models.Model):
            email = models.EmailField(unique=True)

        class Order(models.Model):
            customer = models.ForeignKey(Customer, models.PROTECT)
            status = models.CharField(max_length=20)

        class OrderLine(models.Model):
            order = models.ForeignKey(Order, models.PROTECT)
    """,
}

FRAGMENT = """
import pytest

from shop.checkout import checkout
from shop.gateways import StripeGateway
from shop.models import Customer, Order


class Timeout(Exception):
    pass


class PaymentGateway:
    def charge(self, amount: int, token: str) -> str: ...


class PriceCalculator:
    pass


class IUserService:
    def create_user(self, email: str, password: str): ...


class UserService(IUserService):
    def create_user(self, email, password):
        return Customer.objects.create(email=email)


def pay(**arguments):
    try:
        StripeGateway().charge(**arguments)
    except Timeout:
        StripeGateway().charge(**arguments)


def place_order(customer):
    return Order.objects.create(customer=customer, status="new")


@pytest.mark.integration
def test_fragment(data, backends, timeline):
    {body}
"""


@pytest.fixture
def shop(project: Project, shared_servers: None) -> Project:
    """A new project, as ``startproject`` and ``startapp`` make it, that follows the README."""
    for name in ("shop/migrations/0001_initial.py", "urls.py"):
        (project.path / name).unlink()
    project.settings('ITKIT = {}\nINSTALLED_APPS.remove("itkit")\nROOT_URLCONF = None')
    project.settings("\n".join(FILES["settings.py"].splitlines()))
    for name, text in SHOP.items():
        project.write(name, text)
    project.write("shop/scenarios.py", FILES["shop/scenarios.py"])
    assert project.manage("makemigrations", "shop").code == 0
    return project


def test_the_tests_of_the_first_thirty_seconds_pass(shop: Project) -> None:
    for name in ("shop/tests/test_checkout.py", "tests/test_checkout.py"):
        shop.write(name, FILES[name])
    shop.write("shop/tests/__init__.py", "")
    under_django = shop.test("--integration")
    assert under_django.counts == {"passed": 1}, under_django.output
    under_pytest = shop.pytest("--integration", "-n", "2", "--import-mode=importlib")
    assert under_pytest.counts == {"passed": 2}, under_pytest.output
    assert shop.pytest("--import-mode=importlib").counts == {"skipped": 2}


def test_the_swept_tests_of_the_docs_pass(shop: Project) -> None:
    for name in ("test_survival", "test_payment", "test_chosen"):
        shop.write(f"shop/tests/{name}.py", FILES[f"shop/tests/{name}.py"])
    shop.write("shop/tests/__init__.py", "")
    result = shop.pytest("--integration")
    assert result.counts == {"passed": 3}, result.output


def test_every_fragment_of_settings_is_right(shop: Project) -> None:
    settings = shop.path / "settings.py"
    before = settings.read_text() + "\nCARRIERS = {'dhl': 'shop.carriers.Dhl'}\n"
    for fragment in FRAGMENTS:
        if fragment.startswith("ITKIT"):
            settings.write_text(before + fragment)
            result = shop.manage("check")
            assert result.code == 0, f"{fragment}\n{result.output}"


def test_every_fragment_of_a_test_runs(shop: Project) -> None:
    shop.settings('ITKIT = {"BACKENDS": {"payments": {"SETTING": "PAYMENT_GATEWAY"}}}')
    fragments = [text for text in FRAGMENTS if not text.startswith("ITKIT")]
    for number, fragment in enumerate(fragments):
        body = fragment.replace("customer=user", "customer=data.create(Customer)")
        body = body.replace("checkout(customer", "checkout(data.create(Customer)")
        body = body.replace("place_order(user)", "place_order(data.create(Customer))")
        shop.write(f"test_fragment_{number}.py", FRAGMENT.format(body=body.replace("\n", "\n    ")))
    result = shop.pytest("--integration", "--itkit-budgets=update")
    assert result.counts == {"passed": len(fragments)}, result.output


def test_a_new_project_needs_nothing_else(tmp_path: Path, project: Project) -> None:
    """``startproject``, an app with a model, ``"itkit"`` added, a test: no other change."""
    project.path = place = tmp_path / "new"
    place.mkdir()
    call_command("startproject", "mysite", str(place))
    assert project.manage("startapp", "polls").code == 0
    (place / "polls/models.py").write_text(
        "from django.db import models\n\n\nclass Question(models.Model):\n"
        "    text = models.CharField(max_length=200)\n"
    )
    settings = place / "mysite/settings.py"
    text = settings.read_text().replace(
        "'django.contrib.staticfiles',", "'django.contrib.staticfiles', 'polls', 'itkit',"
    )
    text += (
        "\nDATABASES = {'default': {'ENGINE': 'django.db.backends.postgresql', 'NAME': 'mysite',"
        " 'USER': 'mysite', 'PASSWORD': 'x', 'HOST': 'localhost', 'PORT': '54321'}}\n"
    )
    settings.write_text(text)
    assert project.manage("makemigrations", "polls").code == 0
    (place / "polls/tests.py").write_text(
        "from itkit.test import IntegrationTestCase\n\nfrom polls.models import Question\n\n\n"
        "class QuestionTests(IntegrationTestCase):\n"
        "    def test_question(self):\n"
        "        self.data.create('polls.Question')\n"
        "        self.assertEqual(Question.objects.count(), 1)\n"
    )
    result = project.test("--integration")
    assert result.code == 0, result.output
    assert "itkit: Postgres" in result.output
    assert "Ran 1 test" in result.output
    assert project.test().code == 0
    assert project.leftovers() == []


def test_the_first_shell_block_is_the_two_commands() -> None:
    first = next(text for language, text in BLOCKS if language == "sh")
    lines = first.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("manage.py test --integration")
    assert lines[1].endswith("pytest -n logical")


def settings_in(kind: type, prefix: str = "") -> list[str]:
    found = []
    for item in dataclasses.fields(kind):
        name = prefix + item.name.upper()
        table = item.metadata.get("table")
        found += settings_in(table, f"{name}.") if table else [name]
    return found


@pytest.mark.parametrize("setting", settings_in(conf.Settings))
def test_every_setting_has_its_row(setting: str) -> None:
    assert f"| `{setting}` |" in SETTINGS


def test_every_environment_variable_is_told() -> None:
    for kind in (conf.Settings, conf.PostgresSettings, conf.RedisSettings):
        for item in dataclasses.fields(kind):
            if variable := item.metadata.get("env"):
                assert f"`{variable}`" in SETTINGS


def test_every_check_has_its_row() -> None:
    documented = re.findall(r"itkit\.[EW]\d{3}", checks.__doc__ or "")
    page = DOCS["troubleshooting.md"]
    assert documented == re.findall(r"^\| `(itkit\.[EW]\d{3})` \|", page, re.MULTILINE)


def test_the_readme_is_short_and_names_each_page() -> None:
    assert len(README.encode()) <= 10_000
    assert [name for name in DOCS if f"(docs/{name})" not in README] == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", *DOCS])
def test_each_link_leads_to_a_page_and_a_heading(name: str) -> None:
    home = ROOT if name in ("README.md", "CONTRIBUTING.md") else ROOT / "docs"
    broken = []
    for link in re.findall(r"\]\(((?!https?:)[^)\s]+)\)", (home / name).read_text()):
        path, _, heading = link.partition("#")
        target = home / (path or name)
        if not target.is_file() or (heading and heading not in headings(target.read_text())):
            broken.append(link)
    assert broken == []


def headings(page: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in found}


@pytest.mark.parametrize("name", DOCS)
def test_each_page_begins_with_what_the_reader_can_do_after_it(name: str) -> None:
    if name != "false-greens.md":
        assert DOCS[name].split("\n\n")[1].startswith("After this page you "), DOCS[name][:200]


def test_false_greens_names_tests_and_settings_that_exist():
    page = (ROOT / "docs/false-greens.md").read_text()
    named = set(re.findall(r"[\w/]*\btest_\w+\.py\b", page))
    assert named
    assert [name for name in sorted(named) if not (ROOT / "tests" / name).is_file()] == []
    settings = set(re.findall(r"`([A-Z]+(?:\.[A-Z_]+)?)`", page))
    others = "".join(text for name, text in DOCS.items() if name != "false-greens.md")
    unknown = [name for name in settings if f"`{name}`" not in others and f'"{name}"' not in others]
    assert unknown == []

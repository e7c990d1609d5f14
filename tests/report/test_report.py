"""The report: a page for each failure, without what is secret, and an index."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.test import override_settings

from itkit.exceptions import ConfigurationError
from itkit.report import Folder, Redactor, Trace, chosen
from itkit.report.trace import ChangedTable, Repeated
from itkit.timeline import audit
from tests.support.doors import DOORS, enter, write_tests
from tests.support.projects import Project

HIDDEN = "********"


class Page(HTMLParser):
    """What a browser would see of a page: its texts, its links, and its scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts = ""
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "wbr":  # where a browser may break a word
            self._open.pop()
            self.texts[-1] += data
        elif self._open and self._open[-1] not in ("script", "style"):
            self.texts.append(data)
        elif self._open and self._open[-1] == "script":
            self.scripts += data

    @property
    def text(self) -> str:
        return "\n".join(self.texts)

    @property
    def addresses(self) -> list[str]:
        """All that the page would load or lead to, but for its own events."""
        found = [
            value
            for _, attributes in self.tags
            for name, value in attributes.items()
            if name in ("href", "src", "action") and value
        ]
        return [address for address in found if not address.startswith("#")]


TESTS = r"""
    import os

    from django.core import mail
    from django.core.cache import cache
    from django.db import connection, transaction

    from itkit.test import IntegrationTestCase
    from shop import gateways
    from shop.models import Customer


    class Fails(IntegrationTestCase):
        def test_all_kinds(self):
            self.backends.payments.charge.returns("txn_1")
            with transaction.atomic():
                Customer.objects.create(email="ada@example.org")
                transaction.on_commit(lambda: cache.set("seen", 1))
            gateways.Stripe().charge(5, token="tok_visa")
            for number in range(1, 5):
                Customer.objects.filter(pk=number).first()
            mail.send_mail("Welcome", "Hello Ada", "shop@example.org", ["ada@example.org"])
            print("printed by the test")
            self.assertEqual(Customer.objects.count(), 2)

        def test_hostile_values(self):
            for value in ("</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\x00\x1b[31m\ud800"):
                gateways.send_sms("1", value)
            gateways.send_sms("1", "x" * 10_000_000)
            gateways.send_sms("1", b"\xff\xfe")
            raise ValueError("<b>not bold</b>")

        def test_many_statements(self):
            with connection.cursor() as cursor:
                for _ in range(int(os.environ["STATEMENTS"])):
                    cursor.execute("SELECT 1")
            self.fail("at the end")

        def test_fails_in_its_tear_down_as_well(self):
            self.addCleanup(lambda: 1 / 0)
            self.fail("first")

        def test_passes(self):
            Customer.objects.create(email="b@example.org")


    class Secrets(IntegrationTestCase):
        def test_nothing_secret(self):
            from django.contrib.auth.models import User

            self.backends.payments.charge.returns("txn_1")
            User.objects.create_user("ada", password="correct horse")
            gateways.Stripe().charge(1, token="tok_4242424242")
            gateways.send_sms("1", "Authorization: Bearer abc.def.ghi and postgres://me:geheim@host/x")
            gateways.send_sms("the-secret-key-of-the-project", "in api_key-of-a-dict")
            Customer.objects.filter(email="voucher-0815").exists()
            raise RuntimeError("password=hunter2222 {'password': 'hunter3333'}")
"""
SETTINGS = """
    SECRET_KEY = "the-secret-key-of-the-project"
    GATEWAY = {"API_KEY": "api_key-of-a-dict"}
    ITKIT["REPORT"] = {"SECRETS": ["voucher"]}
    VOUCHER_TOKEN = "voucher-0815"
"""
NOT_TO_BE_SEEN = [
    "the-secret-key-of-the-project",
    "api_key-of-a-dict",
    "tok_4242424242",
    "abc.def.ghi",
    "geheim",
    "correct horse",
    "hunter2222",
    "hunter3333",
    "voucher-0815",
]


@pytest.fixture
def failing(project: Project) -> Project:
    project.settings(SETTINGS)
    project.go_on_after_warnings()  # Django 6.1 warns of EMAIL_BACKEND when a mail is sent
    write_tests(project, TESTS)
    return project


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize(
    "door",
    DOORS,
)
def test_each_failure_has_a_page(door: str, failing: Project) -> None:
    statements = 20_000 if door == "django" else 3_000
    result = enter(door, failing, "--itkit-report=out/report", STATEMENTS=str(statements))
    assert result.code == 1, result.output
    folder = failing.path / "out/report"
    assert folder.stat().st_mode & 0o077 == 0
    files = sorted(file.name for file in folder.glob("*.html"))
    assert len(files) == 7, files  # five failures, one of them twice, and the index
    for file in files:
        html = (folder / file).read_text()
        assert len(html) < 1_500_000
        assert set(Page(html).addresses) <= {"data:,", *files}
        found = [secret for secret in NOT_TO_BE_SEEN if secret in html]
        if "Secrets" in file:
            assert "RuntimeError: password" in html
            assert html.count(f"{HIDDEN}") > len(NOT_TO_BE_SEEN), html
            # The source of the test has them itself, as it is shown where it has failed.
            source = "".join(re.findall(r'<span class="source.*?</span>', html))
            found = [secret for secret in found if html.count(secret) > source.count(secret)]
        assert not found, file
        if file != "index.html":
            assert f"its page: {(folder / file).as_uri()}" in result.output, file
    index = Page((folder / "index.html").read_text())
    assert sorted(index.addresses) == sorted({"data:,", *files} - {"index.html"})
    assert list(folder.glob("*.partial")) == []

    (name,) = (file for file in files if "test_all_kinds" in file)
    page = Page((folder / name).read_text())
    kinds = [attributes["data-kind"] for _, attributes in page.tags if "data-kind" in attributes]
    assert [kind for kind in kinds if kind != "sql"] == ["transaction", "hook", "redis", "backend"]
    assert kinds.count("sql") == 6
    for text in [
        "AssertionError: 1 != 2",
        "--itkit-seed=",
        "self.assertEqual(Customer.objects.count(), 2)",
        "ada@example.org",
        "INSERT shop_customer",
        "payments.charge",
        "Welcome",
        "Hello Ada",
    ]:
        assert text in page.text, text
    assert "Statements that one line has sent several times" in page.text
    if "pytest" in door:
        assert "printed by the test" in page.text

    (name,) = (file for file in files if "hostile" in file)
    page = Page((folder / name).read_text())
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert [tag for tag, _ in page.tags].count("img") == 0
    assert "10,000,000 in all" in page.text
    (name,) = (file for file in files if "many" in file)
    assert f"… {statements - 1500} crossings before these" in Page((folder / name).read_text()).text


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.slow
def test_no_report_unless_it_is_asked_for(failing: Project) -> None:
    failing.write("other/notes.txt", "mine")
    for arguments in ((), ("--itkit-report=off",)):
        result = failing.pytest("--integration", "-k", "all_kinds", *arguments)
        assert "its page" not in result.output
    assert not (failing.path / "itkit-report").exists()
    for arguments, message in [
        (("--itkit-report", "shop"), "--itkit-report has taken 'shop'"),
        (("--itkit-report=other",), "has other files in it"),
        (("--itkit-report=settings.py/x",), "cannot be written to"),
    ]:
        for run in (failing.test, failing.pytest):
            result = run("--integration", *arguments)
            assert result.code != 0
            assert message in result.output.replace("\n", " "), result.output
    assert (failing.path / "other/notes.txt").read_text() == "mine"


def test_names_and_values_of_secrets_are_hidden() -> None:
    redact = Redactor(["voucher"])
    assert redact.value("password", "x") == HIDDEN
    assert redact.value("gift_voucher_code", "x") == HIDDEN
    assert redact.value("amount", 5) == "5"
    assert redact.value("", {"token": "t", "rows": [{"Card_Number": 1, "n": 2}]}) == (
        f"{{'token': {HIDDEN}, 'rows': [{{'Card_Number': {HIDDEN}, 'n': 2}}]}}"
    )
    assert redact.text("redis://user:pass@host/1") == f"redis://user:{HIDDEN}@host/1"
    assert redact.text('"authorization": "Bearer abc"') == f'"authorization": {HIDDEN}'
    assert redact.text("Authorization: Bearer abc, x=1") == f"Authorization: Bearer {HIDDEN}, x=1"
    assert Redactor(shows_values=False).value("amount", 5) == "<int, not shown>"


def test_secrets_of_the_settings_are_hidden_wherever_they_are() -> None:
    with override_settings(PARTNER={"ACCESS_TOKEN": "abcdefgh"}, BROKER="amqp://me:ijklmnop@host/"):
        redact = Redactor()
        assert redact.text("<abcdefgh> ijklmnop") == f"<{HIDDEN}> {HIDDEN}"


@pytest.mark.parametrize(
    ("sql", "params", "shown"),
    [
        (
            "INSERT INTO t (name, password) VALUES (%s, %s), (%s, %s)",
            "abcd",
            ["'a'", HIDDEN, "'c'", HIDDEN],
        ),
        ('UPDATE "t" SET "password" = %s, "n" = %s WHERE "id" = %s', [1, 2, 3], [HIDDEN, "2", "3"]),
        (
            'SELECT 1 FROM t WHERE "t"."api_key" = %s AND x IN (%s, %s)',
            [1, 2, 3],
            [HIDDEN, "2", "3"],
        ),
        ("SELECT %s", None, []),
        ("SELECT %(token)s, %(n)s", {"token": 1, "n": 2}, [f"token: {HIDDEN}", "n: 2"]),
    ],
)
def test_parameters_are_hidden_by_their_columns(sql, params, shown) -> None:
    found = Redactor().parameters(sql, list(params) if isinstance(params, str) else params)
    assert found == shown


class Broken:
    def __repr__(self) -> str:
        raise LookupError


def test_a_value_that_cannot_be_printed_is_named() -> None:
    assert Redactor().value("x", Broken()) == "<Broken whose repr() raises LookupError>"
    assert Redactor().value("x", "y" * 5000).endswith("5,000 in all")


def test_the_directory_is_that_of_the_option_or_the_setting(tmp_path: Path) -> None:
    assert chosen(None, None, []) is None
    assert chosen("off", "named", ["--itkit-report=off"]) is None
    assert chosen(None, str(tmp_path), []) == tmp_path
    assert chosen("itkit-report", str(tmp_path), []) == Path("itkit-report").absolute()
    with pytest.raises(ConfigurationError, match=r"has taken 'shop\.tests'"):
        chosen("shop.tests", None, ["--itkit-report", "shop.tests"])


def test_the_pages_of_the_run_before_are_gone(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "report")
    folder.prepare()
    (folder.path / "old.html").touch()
    (folder.path / "old.json").touch()
    folder.prepare()
    assert [file.name for file in folder.path.glob("*.*ml")] == ["index.html"]
    assert "No failures" in (folder.path / "index.html").read_text()


HOSTILE = '<script>alert(1)</script> {{ x }} {% x %} & "quoted"'


def trace_of_rows(test: str) -> Trace:
    """A failed test with hostile text in all that a page has many of."""
    return Trace(
        test=test,
        worker="w0",
        error=f"ValueError: {HOSTILE}",
        repeat="",
        frames=[],
        events=[],
        omitted=0,
        repeated=[Repeated(times=3, sql=f"{HOSTILE} {'x' * 500}", site=HOSTILE)],
        mails=[],
        tables=[
            ChangedTable(
                table="shop_order",
                rows=[("added", [("id", "1"), ("note", HOSTILE)]), ("removed", [("id", "2")])],
                has_more=True,
            )
        ],
        keys=[(f":1:{HOSTILE} (string)", HOSTILE)],
        seconds=0.5,
    )


def test_rows_keys_and_repeated_statements_are_escaped(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    html = folder.add(trace_of_rows("test_1")).read_text()
    page, index = Page(html), Page((tmp_path / "index.html").read_text())

    assert "alert(1)" not in page.scripts
    assert "script" not in [tag for tag, _ in index.tags]
    assert page.texts.count(HOSTILE) == 2, "the line of the repeated statement, the value of a key"
    assert f":1:{HOSTILE} (string)" in page.texts
    assert '<tr><td>added</td><td class="mono"><span class="soft">id</span> 1, ' in html
    assert f" {HOSTILE}" in page.texts, "the column of a row"
    assert "… and more" in page.texts
    (repeated,) = (text for text in page.texts if text.endswith("xxx…"))
    assert len(repeated) == 400
    assert f"ValueError: {HOSTILE}" in index.texts


def test_many_failures_read_the_entries_of_each_other_once(tmp_path: Path) -> None:
    mine, of_another_worker = Folder(tmp_path), Folder(tmp_path)
    read: list[str] = []

    def note(event: tuple[object, ...]) -> None:
        path, mode, _ = event
        if str(path).endswith(".json") and mode == "r":
            read.append(Path(str(path)).name)

    with audit.listening({"open": note}):
        for number in range(5):
            mine.add(trace_of_rows(f"mine_{number}"))
            of_another_worker.add(trace_of_rows(f"other_{number}"))

    assert len(read) == 9 + 10, "the last page of the other worker came after the last of mine"
    index = Page((tmp_path / "index.html").read_text())
    assert {"mine_4", "other_0", "other_4"} <= set(index.texts)

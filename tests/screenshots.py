"""The pictures of ``docs/report.md``: ``python -m tests.screenshots``, from the repository's root.

A small shop whose tests fail on purpose is run with ``--itkit-report``, on servers of its own, and
Chromium takes a picture of its pages. This is no test of pytest's: look at each of the pictures
before you commit them.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.doors import write_tests
from tests.support.projects import Project

IMAGES = Path(__file__).parent.parent / "docs" / "images"
MOST_BYTES = 400_000  # of all pictures together, as each clone of the repository has them
DARK = "--blink-settings=preferredColorScheme=0"

CHECKOUT = """
    from django.core.cache import cache
    from django.core.mail import send_mail
    from django.db import transaction

    from shop.gateways import Stripe
    from shop.models import Currency, Customer


    def sign_up(email, token):
        Stripe().charge(900, token=token)
        with transaction.atomic():
            Customer.objects.create(email=email)
            transaction.on_commit(lambda: cache.set("customers", Customer.objects.count()))
        send_mail("Welcome to the shop", f"Hello {email}!", "shop@example.org", [email])


    def prices(codes):
        return [Currency.objects.filter(code=code).first() for code in codes]


    def first_customer(email):
        if not Customer.objects.exists():
            Customer.objects.create(email=email)
"""

TESTS = """
    from functools import partial

    from itkit import sweep
    from itkit.test import IntegrationTestCase
    from shop.checkout import first_customer, prices, sign_up
    from shop.models import Customer


    class CheckoutTests(IntegrationTestCase):
        def test_a_customer_is_welcome(self):
            self.backends.payments.charge.returns("txn_1")
            sign_up("ada@example.org", token="tok_visa")
            prices(["EUR", "USD", "JPY", "SEK"])
            self.assertEqual(Customer.objects.get().email, "Ada@example.org")

        @sweep.faults
        def test_who_has_paid_is_a_customer(self, fault):
            self.backends.payments.charge.returns("txn_1")
            with fault.injected():
                sign_up("ada@example.org", token="tok_visa")
            paid = fault.done(self.backends.payments.charge)
            self.assertEqual(len(paid), Customer.objects.count())

        @sweep.races
        def test_there_is_one_first_customer(self, race):
            race(
                partial(first_customer, "ann@example.org"),
                partial(first_customer, "bob@example.org"),
            )
            self.assertEqual(race.errors, [None, None])
"""

PICTURES = {
    # name: the page, the size of the window, and further options
    "index": ("index", (900, 380), ()),
    "trace": ("welcome", (900, 1000), ()),
    "faults": ("paid", (1080, 840), (DARK,)),
    "race": ("first", (900, 920), ()),
}


def main() -> None:
    """Take the pictures."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("There is no Chromium: install the package chromium.")
    with tempfile.TemporaryDirectory(prefix="itkit-screenshots-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # a Postgres of root's runs as somebody else
        for part in ("project", "cache", "data"):
            (directory / part).mkdir()
        project = Project(
            directory / "project", cache=directory / "cache", data_root=directory / "data"
        )
        try:
            project.write("shop/checkout.py", CHECKOUT)
            write_tests(project, TESTS)
            result = project.test("--integration", "--itkit-report")
        finally:
            project.kill()
        folder = project.path / "itkit-report"
        if len(list(folder.glob("*.html"))) != len(PICTURES):
            sys.exit(f"There are not {len(PICTURES)} pages:\n{result.output}")
        IMAGES.mkdir(exist_ok=True)
        for picture, (part, (width, height), options) in PICTURES.items():
            (page,) = folder.glob(f"*{part}*.html")
            command = [
                *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *("--no-first-run", "--disable-background-networking", "--disable-sync"),
                *(f"--user-data-dir={directory}/profile", f"--window-size={width},{height}"),
                *(f"--screenshot={IMAGES / picture}.png", *options, page.as_uri()),
            ]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
    size = sum(file.stat().st_size for file in IMAGES.glob("*.png"))
    if size > MOST_BYTES:
        sys.exit(f"The pictures have {size:,} bytes, and may have {MOST_BYTES:,}.")
    sys.stdout.write(f"{len(PICTURES)} pictures of {size:,} bytes are in {IMAGES}.\n")


if __name__ == "__main__":
    main()

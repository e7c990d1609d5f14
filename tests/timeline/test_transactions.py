"""A transaction that a test leaves open fails the test, however it was opened, and is rolled back."""

import pytest

from tests.support.doors import SERIAL
from tests.support.projects import Project
from tests.support.verdicts_project import judged

pytestmark = pytest.mark.usefixtures("shared_servers", "beside_a_developer")

TESTS = """
    import threading

    from django.db import connection, connections, transaction
    from django.test import TestCase, TransactionTestCase

    from itkit.test import IntegrationTestCase
    from shop.models import Customer


    def opens(kind):
        if kind == "autocommit":
            transaction.set_autocommit(False)
        elif kind == "atomic":
            transaction.atomic().__enter__()
        else:
            with connection.cursor() as cursor:
                cursor.execute(kind)


    class Committed(IntegrationTestCase):
        def test_a_red_autocommit(self):
            opens("autocommit")
            Customer.objects.create(email="a@example.com")

        def test_b_red_autocommit_without_a_statement(self):
            opens("autocommit")

        def test_c_red_autocommit_and_a_commit(self):
            opens("autocommit")
            Customer.objects.create(email="c@example.com")
            transaction.commit()

        def test_d_red_atomic(self):
            opens("atomic")
            Customer.objects.create(email="d@example.com")

        def test_e_red_two_of_them(self):
            opens("atomic")
            opens("atomic")

        def test_f_red_begin(self):
            opens("BEGIN")
            Customer.objects.create(email="f@example.com")

        def test_g_red_start_transaction(self):
            opens("start transaction read only")

        def test_h_red_a_failed_transaction(self):
            opens("BEGIN")
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT 1/0")
            except Exception:
                pass

        def test_i_red_a_thread(self):
            def work():
                opens("autocommit")
                Customer.objects.create(email="i@example.com")
                Committed.left = connections["default"]

            thread = threading.Thread(target=work, name="careless")
            thread.start()
            thread.join()

        def test_j_green_all_that_is_ended(self):
            opens("autocommit")
            Customer.objects.create(email="j@example.com")
            transaction.commit()
            transaction.set_autocommit(True)
            opens("BEGIN")
            opens("COMMIT")
            with transaction.atomic(), transaction.atomic():
                Customer.objects.create(email="k@example.com")
            try:
                with transaction.atomic():
                    raise ValueError
            except ValueError:
                pass
            opens("BEGIN")
            self.addCleanup(opens, "ROLLBACK")

        def test_k_green_nothing_is_left_of_the_others(self):
            self.assertTrue(transaction.get_autocommit())
            self.assertFalse(connection.in_atomic_block)
            self.assertFalse(Customer.objects.exists())


    class Plain(TransactionTestCase):
        def test_l_red_atomic(self):
            opens("atomic")

        def test_m_green_after_it(self):
            self.assertFalse(connection.in_atomic_block)


    class RolledBack(TestCase):
        @classmethod
        def setUpTestData(cls):
            Customer.objects.create(email="shared@example.com")

        def test_n_red_atomic(self):
            opens("atomic")
            Customer.objects.create(email="n@example.com")

        def test_o_green_after_it(self):
            self.assertEqual(Customer.objects.count(), 1)
            with transaction.atomic():
                Customer.objects.create(email="o@example.com")

        def test_p_red_atomic_twice(self):
            opens("atomic")
            opens("atomic")


    class Zuletzt(TestCase):
        def test_q_green_in_another_class(self):
            self.assertFalse(Customer.objects.exists())
"""

PYTEST_TESTS = """
    import pytest
    from django.db import connection, transaction


    @pytest.mark.integration
    def test_red_committed():
        transaction.atomic().__enter__()


    @pytest.mark.django_db
    def test_red_rolled_back():
        transaction.atomic().__enter__()


    @pytest.fixture
    def manual(db):
        transaction.atomic().__enter__()
        yield
        connection.atomic_blocks[-1].__exit__(None, None, None)


    @pytest.mark.integration
    def test_green_a_fixture_ends_what_it_has_opened(manual):
        pass
"""


@pytest.mark.parametrize("door", SERIAL)
def test_what_a_test_leaves_open_fails_it(door, project: Project):
    result = judged(door, project, TESTS)

    opened = result.output.count("The test has left a transaction open on its connection 'default'")
    assert opened == 11, result.output
    assert "opened by atomic() at shop/tests/test_shop.py:15 in opens" in result.output
    assert "opened by set_autocommit(False) at shop/tests/test_shop.py:13 in opens" in result.output
    assert "opened by BEGIN at shop/tests/test_shop.py:18 in opens" in result.output
    assert "opened by the thread 'careless' at shop/tests/test_shop.py:13" in result.output


def test_what_a_function_of_pytest_leaves_open_fails_it(project: Project):
    judged("pytest", project, PYTEST_TESTS)

"""Clean-up against the constraints of a real Postgres, with rows that are committed."""

import threading

import pytest
from django.db import DatabaseError, connections, transaction
from django.db.models.signals import post_save
from django.test.utils import CaptureQueriesContext

from itkit.data import TestDataManager
from tests.conftest import ALIAS
from tests.support.shopdata.models import (
    AuditEntry,
    Bundle,
    Category,
    Coupon,
    Customer,
    Member,
    Note,
    Order,
    OrderLine,
    Payment,
    Product,
    Redemption,
    Tag,
    Team,
)

MODELS = [
    Customer, Tag, Product, Bundle, Order, OrderLine, Payment, AuditEntry, Team, Member, Category,
    Coupon, Redemption,
]  # fmt: skip


@pytest.fixture
def foreign(database):
    """Rows of somebody else in the same tables: what is there before and after is equal."""
    with TestDataManager(using=ALIAS) as data:
        data.create(Order, "paid")
        data.create(Redemption)
        data.create(Bundle).tags.add(data.create(Tag, name="foreign"))
        before = contents()
        assert all(before[model] for model in (Order, Payment, Redemption, Bundle, Tag))
        yield
        assert contents() == before
    assert not any(contents().values())


@pytest.fixture
def data(foreign):
    return TestDataManager(using=ALIAS)


@pytest.fixture
def checked_at_once(database):
    """Foreign keys as other tools than Django declare them."""
    alter_foreign_keys("NOT DEFERRABLE")
    yield
    alter_foreign_keys("DEFERRABLE INITIALLY DEFERRED")


def alter_foreign_keys(how):
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(
            "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = 'f'"
        )
        for table, constraint in cursor.fetchall():
            cursor.execute(f"ALTER TABLE {table} ALTER CONSTRAINT {constraint} {how}")


def contents():
    return {model: sorted(rows(model).values_list("pk", flat=True)) for model in MODELS} | {
        Note: notes()
    }


def rows(model):
    return model.objects.using(ALIAS)


def notes():
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("SELECT id FROM shopdata_note ORDER BY id")
        return [pk for (pk,) in cursor.fetchall()]


def test_factories_and_those_they_use_write_to_the_database_of_the_manager(data):
    order = data.create(Order, "paid")

    assert order._state.db == order.customer._state.db == ALIAS
    assert rows(Payment).get(order=order)
    data.cleanup()


def test_untracked_rows_that_protect_ours_go_first_and_are_reported(data):
    order = data.create(Order)
    rows(Payment).create(order_id=order.pk, amount=5)

    report = data.cleanup()

    assert report.beyond == {"shopdata.Payment": 1}
    assert report.removed == {"shopdata.Order": 1, "shopdata.Customer": 1}


def test_rows_that_reference_ours_over_several_tables_go(data):
    customer = data.create(Customer)
    order = rows(Order).create(customer=customer)
    product = data.create(Product)
    rows(OrderLine).create(order=order, product=product, price=1)

    report = data.cleanup()

    assert report.beyond == {"shopdata.Order": 1, "shopdata.OrderLine": 1}


def test_a_soft_deleted_row_that_no_manager_shows_goes(data):
    order = data.create(Order)
    note = Note(order_id=order.pk, is_deleted=True)
    note.save(using=ALIAS)
    assert not rows(Note).exists()

    report = data.cleanup()

    assert notes() == []
    assert report.beyond == {"shopdata.Note": 1}


def test_a_row_that_outlives_ours_by_set_null_stays_until_it_is_tracked(data):
    order = data.create(Order)
    entry = rows(AuditEntry).create(order_id=order.pk)

    report = data.cleanup()

    entry.refresh_from_db()
    assert entry.order_id is None
    assert report.released == {"shopdata.AuditEntry": 1}
    data.track(entry)
    data.cleanup()


def test_a_cycle_of_rows_that_protect_each_other_goes(data):
    with transaction.atomic(using=ALIAS):
        team = rows(Team).create(lead_id=1)
        member = rows(Member).create(team=team)
        rows(Team).filter(pk=team.pk).update(lead=member)
    data.track(team)

    report = data.cleanup()

    assert report.removed == {"shopdata.Team": 1}
    assert report.beyond == {"shopdata.Member": 1}


def test_rows_of_one_table_that_protect_each_other_go(data):
    root = data.create(Category)
    child = rows(Category).create(parent=root)
    rows(Category).create(parent=child)
    rows(Category).filter(pk=root.pk).update(parent=child)

    report = data.cleanup()

    assert report.removed == {"shopdata.Category": 1}
    assert report.beyond == {"shopdata.Category": 2}


def test_a_reference_to_another_column_than_the_key_is_followed(data):
    coupon = data.create(Coupon)
    rows(Redemption).create(coupon=coupon)

    report = data.cleanup()

    assert report.beyond == {"shopdata.Redemption": 1}


def test_inherited_tables_and_many_to_many_rows_go_with_their_owners(data):
    bundle = data.create(Bundle)
    bundle.tags.add(data.create(Tag))

    report = data.cleanup()

    assert report.removed == {"shopdata.Bundle": 1, "shopdata.Tag": 1}
    assert not report.beyond


def test_a_parent_takes_the_row_that_inherits_it_along(data):
    bundle = data.create(Bundle)
    parent_only = TestDataManager(using=ALIAS)
    parent_only.track(rows(Product).get(pk=bundle.pk))

    assert parent_only.cleanup().beyond == {"shopdata.Bundle": 1}
    assert not data.cleanup().removed


def test_the_number_of_statements_does_not_grow_with_the_rows(data):
    def statements(size):
        data.create_batch(Order, size)
        with CaptureQueriesContext(connections[ALIAS]) as queries:
            data.cleanup()
        return len(queries)

    assert statements(60) == statements(2)


def test_constraints_that_are_checked_at_once_are_met_by_the_order(data, checked_at_once):
    order = data.create(Order, "paid")
    bundle = data.create(Bundle)
    bundle.tags.add(data.create(Tag))
    rows(OrderLine).create(order=order, product_id=bundle.pk, price=1)

    assert data.cleanup().beyond == {"shopdata.OrderLine": 1}


def test_what_refuses_to_go_is_left_and_told(data):
    order = data.create(Order)
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql"
            " AS $$ BEGIN RAISE 'refused by the trigger'; END $$"
        )
        cursor.execute(
            "CREATE TRIGGER refuse BEFORE DELETE ON shopdata_order EXECUTE FUNCTION refuse()"
        )
    called = []
    data.on_cleanup(called.append, "other step")

    with pytest.raises(ExceptionGroup) as caught:
        data.cleanup()

    with connections[ALIAS].cursor() as cursor:
        cursor.execute("DROP FUNCTION refuse CASCADE")
    (error,) = caught.value.exceptions
    assert called == ["other step"]
    assert "refused by the trigger" in str(error)
    assert "1 shopdata.Order" in error.__notes__[0]
    data.track(order.customer)
    data.cleanup()


def test_in_an_aborted_transaction_the_error_says_what_to_do(data):
    with pytest.raises(ExceptionGroup) as caught, transaction.atomic(using=ALIAS):  # noqa: PT012
        data.create(Customer)
        with pytest.raises(DatabaseError), connections[ALIAS].cursor() as cursor:
            cursor.execute("SELECT nonsense")
        data.cleanup()

    assert "an earlier statement of the test failed" in caught.value.exceptions[0].__notes__[0]


def test_rows_that_another_thread_saves_meanwhile_are_not_taken_for_ours(data):
    strangers = []

    def save_elsewhere(sender, **_):
        if sender is Customer and not strangers:
            strangers.append("pending")
            thread = threading.Thread(target=stranger)
            thread.start()
            thread.join()

    def stranger():
        strangers.append(rows(Customer).create(email="stranger@example.com"))
        connections[ALIAS].close()

    post_save.connect(save_elsewhere)
    try:
        data.create(Order)
    finally:
        post_save.disconnect(save_elsewhere)
    data.cleanup()

    assert rows(Customer).filter(pk=strangers[1].pk).delete()[0] == 1


def test_what_threads_create_is_captured(database):
    def create(number):
        Customer.objects.using(ALIAS).create(name=f"n{number}", email=f"{number}@example.com")
        connections[ALIAS].close()

    with TestDataManager(using=ALIAS) as data:
        with data.capture() as made:
            threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert sorted(customer.name for customer in made) == [f"n{number}" for number in range(8)]
    assert not Customer.objects.using(ALIAS).filter(name__startswith="n").exists()

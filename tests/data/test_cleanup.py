"""Clean-up of rows that nobody's models, or nobody's constraints, tell about; and by models' ways."""

import pytest
from django.core.checks import run_checks
from django.db import connections, models
from django.test import TestCase, override_settings

from itkit.data import TestDataManager, take_left
from tests.conftest import ALIAS
from tests.support.doors import SERIAL, enter, write_tests
from tests.support.kinds.models import Attachment, Author, Bistro, Cafe, Label, Place, Post, Remark
from tests.support.projects import Project
from tests.support.shopdata.models import Customer, Note, Order


@pytest.fixture
def data(database):
    return TestDataManager(using=ALIAS)


@pytest.fixture
def sql(database):
    def execute(statement):
        with connections[ALIAS].cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else None

    yield execute
    for table in ("chain_b", "chain_a", "odd"):
        execute(f"DROP TABLE IF EXISTS {table}")
    execute("ALTER TABLE shopdata_customer DROP CONSTRAINT IF EXISTS undeclared")


def rows(model):
    return model._base_manager.using(ALIAS)


def test_rows_of_tables_that_no_model_has_go_along(data, sql):
    kept = TestDataManager(using=ALIAS)
    order, other = data.create(Order), kept.create(Order)
    sql("CREATE TABLE chain_a (id bigint REFERENCES shopdata_order UNIQUE, note text)")
    sql("CREATE TABLE chain_b (a bigint REFERENCES chain_a (id))")
    for key in (order.pk, other.pk):
        sql(f"INSERT INTO chain_a VALUES ({key})")
        sql(f"INSERT INTO chain_b VALUES ({key}), ({key})")

    report = data.cleanup()

    assert report.beyond == {"chain_a": 1, "chain_b": 2}
    assert sql("SELECT id FROM chain_a") == [(other.pk,)]
    assert sql("SELECT a FROM chain_b") == [(other.pk,)] * 2
    assert kept.cleanup().beyond == {"chain_a": 1, "chain_b": 2}


def test_such_tables_are_followed_in_whatever_order_their_constraints_are_told(data, sql):
    order = data.create(Order)
    sql("CREATE TABLE chain_a (id bigint UNIQUE)")
    sql("CREATE TABLE chain_b (a bigint REFERENCES chain_a (id))")  # before that of chain_a
    sql("ALTER TABLE chain_a ADD FOREIGN KEY (id) REFERENCES shopdata_order")
    sql(f"INSERT INTO chain_a VALUES ({order.pk})")
    sql(f"INSERT INTO chain_b VALUES ({order.pk})")

    assert data.cleanup().beyond == {"chain_a": 1, "chain_b": 1}


def test_a_constraint_on_a_column_that_is_no_foreign_key_of_its_model_is_known(data, sql):
    sql(
        "ALTER TABLE shopdata_customer ADD CONSTRAINT undeclared"
        " FOREIGN KEY (name) REFERENCES shopdata_coupon (code)"
    )
    coupon = data.create("shopdata.Coupon")
    rows(Customer).create(email="a@example.com", name=coupon.code)

    assert data.cleanup().beyond == {"shopdata.Customer": 1}


def test_what_the_database_nulls_by_itself_stays(data, sql):
    order = data.create(Order)
    sql("CREATE TABLE odd (id bigint REFERENCES shopdata_order ON DELETE SET NULL)")
    sql(f"INSERT INTO odd VALUES ({order.pk})")

    assert not data.cleanup().beyond
    assert sql("SELECT id FROM odd") == [(None,)]


def test_rows_about_ours_by_a_generic_key_go_along(data):
    kept = TestDataManager(using=ALIAS)
    author, other = data.create(Author), kept.create(Author)
    label = data.create(Label)
    for about in (author, other, label):
        remark = Remark(about=about, text="x")
        remark.kind_id = remark.kind.pk
        remark.save(using=ALIAS)

    assert data.cleanup().beyond == {"kinds.Remark": 2}
    assert rows(Remark).get().key == str(other.pk)
    assert kept.cleanup().beyond == {"kinds.Remark": 1}


def test_tables_that_inherit_over_two_steps_go_from_any_of_them(data):
    bistro = data.create(Bistro)
    middle = TestDataManager(using=ALIAS)
    middle.track(rows(Cafe).get(pk=bistro.pk))
    assert middle.cleanup().beyond == {"kinds.Bistro": 1}
    assert not rows(Place).exists()
    data.cleanup()


@pytest.fixture
def by_model():
    with override_settings(ITKIT={"DATA": {"DELETE_BY_MODEL": ["kinds.post", "shopdata.Note"]}}):
        yield


def test_a_model_can_delete_in_its_own_way(data, by_model, monkeypatch):
    deleted = []
    monkeypatch.setattr(
        Post, "delete", lambda self, **_: deleted.append((self.title, self.labels.count()))
    )
    post = data.create(Post, title="mine")

    assert data.cleanup().removed == {"kinds.Post": 1, "kinds.Author": 1, "kinds.Label": 1}
    assert deleted == [("mine", 0)]
    assert not rows(Post).filter(pk=post.pk).exists()


def test_a_soft_deletion_of_its_own_does_not_keep_the_row(data, by_model):
    order = data.create(Order)
    note = rows(Note).create(order=order)
    assert data.cleanup().beyond == {"shopdata.Note": 1}
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM shopdata_note WHERE id = %s", [note.pk])
        assert cursor.fetchone() == (0,)


@override_settings(ITKIT={"DATA": {"DELETE_BY_MODEL": ["kinds.Pots"]}})
def test_an_unknown_model_is_a_check():
    (error,) = [error for error in run_checks() if error.id == "itkit.E013"]
    assert error.msg == 'ITKIT["DATA"]["DELETE_BY_MODEL"]: \'kinds.Pots\' is no installed model.'
    assert error.hint == "Did you mean 'kinds.Post'?"


class RolledBack(TestCase):
    def test_rows_that_are_rolled_back_are_left_to_it(self):
        data = TestDataManager()
        data.create(Order)
        called = []
        data.on_cleanup(called.append, "done")
        with self.assertNumQueries(0):
            report = data.end()
        assert report.forgotten == {"shopdata.Customer": 1, "shopdata.Order": 1}
        assert called == ["done"]

    def test_who_asks_for_a_clean_up_gets_it(self):
        data = TestDataManager()
        data.create(Order)
        data.cleanup()
        assert not Order.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_committed_rows_are_removed_at_the_end():
    data = TestDataManager()
    data.create(Attachment)
    assert data.end().removed == {"kinds.Attachment": 1}
    assert not Attachment.objects.exists()


@pytest.fixture
def reset_data(transactional_db):
    """A manager whose database is reset after its test."""
    take_left()
    return TestDataManager(is_reset=lambda alias: alias == "default")


def test_committed_rows_are_left_to_the_reset(reset_data, django_assert_num_queries):
    reset_data.create(Order)
    with django_assert_num_queries(0):
        report = reset_data.end()
    assert report.forgotten == {"shopdata.Customer": 1, "shopdata.Order": 1}
    assert str(report).startswith("left to the rollback or reset ")
    assert Order.objects.exists()
    assert take_left() == {"shopdata_customer", "shopdata_order"}


def test_all_tables_of_a_row_are_known_to_be_left(reset_data):
    reset_data.create(Bistro)
    reset_data.create(Post)
    reset_data.end()
    assert take_left() >= {"kinds_place", "kinds_cafe", "kinds_bistro", "kinds_post_labels"}


def test_who_asks_for_a_clean_up_does_not_wait_for_the_reset(reset_data):
    reset_data.create(Order)
    assert reset_data.cleanup().removed == {"shopdata.Customer": 1, "shopdata.Order": 1}
    assert not Order.objects.exists()


def test_a_callback_finds_none_of_the_rows_that_were_created_after_it(reset_data):
    before = reset_data.create(Customer)
    found = []
    reset_data.on_cleanup(lambda: found.extend(Customer.objects.all()))
    reset_data.create(Customer)

    report = reset_data.end()

    assert found == [before]
    assert (report.removed, report.forgotten) == (
        {"shopdata.Customer": 1},
        {"shopdata.Customer": 1},
    )


def test_what_is_deleted_by_its_model_is_not_left_to_the_reset(reset_data, by_model):
    reset_data.create(Order)
    assert reset_data.end().removed == {"shopdata.Customer": 1, "shopdata.Order": 1}
    assert not take_left()


RESET = """
    from django.test import SimpleTestCase
    from itkit.test import IntegrationMixin, IntegrationTestCase
    from shop.models import Customer


    class Committing(IntegrationTestCase):
        def test_a_leaves_its_rows_until_the_reset(self):
            self.addCleanup(lambda: self.assertEqual(Customer.objects.count(), 1))
            self.data.create("shop.Customer")

        def test_b_finds_none(self):
            self.assertFalse(Customer.objects.exists())

    class Unreset(IntegrationTestCase):
        def _fixture_teardown(self):
            pass

        def test_a_leaves_its_rows_although_nothing_resets(self):
            self.data.create("shop.Customer")

        def test_b_finds_none(self):
            self.assertFalse(Customer.objects.exists())

    class Simple(IntegrationMixin, SimpleTestCase):
        databases = {"default"}

        def test_a_removes_its_own_rows(self):
            self.addCleanup(lambda: self.assertFalse(Customer.objects.exists()))
            self.data  # so that its clean-up comes first
            self.addCleanup(lambda: self.assertTrue(Customer.objects.exists()))
            self.data.create("shop.Customer")

        def test_b_finds_none(self):
            self.assertFalse(Customer.objects.exists())
"""


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize("door", SERIAL)
def test_no_rows_are_left_to_the_next_test(door, project: Project):
    write_tests(project, RESET)
    result = enter(door, project)
    assert result.counts == {"passed": 6}, result.output
    assert "has committed" not in result.output


FIXTURES = """
    import pytest
    from django.test import TransactionTestCase
    from shop.models import Customer


    @pytest.fixture
    def made(data):
        return data.create("shop.Customer")


    @pytest.mark.integration
    def test_a_makes_a_row(made):
        assert Customer.objects.count() == 1


    @pytest.mark.integration
    def test_b_finds_none(data):
        assert not Customer.objects.exists()


    @pytest.mark.integration
    @pytest.mark.usefixtures("made")
    class TestsThatAreResetBeforeTheirFixturesEnd(TransactionTestCase):
        def test_a_has_a_row_of_a_fixture(self):
            assert Customer.objects.count() == 1

        def test_b_finds_no_other(self):
            assert Customer.objects.count() == 1


    @pytest.mark.integration
    def test_c_finds_none(data):
        assert not Customer.objects.exists()
"""


@pytest.mark.usefixtures("shared_servers")
def test_a_fixture_of_a_test_case_removes_its_rows_itself(project: Project):
    write_tests(project, FIXTURES)
    result = enter("pytest", project)
    assert result.counts == {"passed": 5}, result.output
    assert "has committed" not in result.output


def test_whoever_walks_the_fields_or_models_of_django_meets_none_of_itkit():
    found = [models.Field, models.Model]
    for kind in found:
        found.extend(kind.__subclasses__())
    ours = {kind for kind in found if kind.__module__.partition(".")[0] == "itkit"}
    assert {kind.__name__ for kind in ours} <= {"Undeclared"}  # made for one deletion, then gone

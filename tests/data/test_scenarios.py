"""Scenarios are made once and restored, equal, as long as nothing that decides them changes."""

import asyncio
import random
import threading
import warnings
from pathlib import Path

import pytest
from django.db import connections, transaction

from itkit.data import TestDataManager
from itkit.data.scenarios import player, scenarios
from itkit.data.scenarios.snapshots import RowSnapshot
from itkit.exceptions import DataError
from tests.conftest import ALIAS
from tests.data.test_bulk import contents, empty
from tests.support.doors import SERIAL, enter, write_tests
from tests.support.kinds.factories import AuthorFactory
from tests.support.kinds.models import Author, Computed, Post
from tests.support.kinds.scenarios import PLAYED, library
from tests.support.projects import Project
from tests.support.shopdata.models import Product

pytestmark = pytest.mark.usefixtures("shared_servers")


@pytest.fixture
def data(database, tmp_path):
    forget()
    empty()
    with TestDataManager(using=ALIAS, snapshots=lambda: tmp_path) as data:
        yield data
    assert not any(contents().values())


def forget():
    """Be another process."""
    player._in_process.clear()
    player._schemas.clear()
    player._sources.cache_clear()
    PLAYED.clear()


def origin(world):
    return repr(world).rpartition("; ")[2].rstrip(">")


def test_a_world_is_made_once_and_restored_equal(data):
    world = data.scenario("library")
    assert origin(world) == "made, and kept"
    first = contents()
    post = world.post
    assert [author.name for author in world.authors] == [
        author.name for author in Author.objects.using(ALIAS).order_by("pk")[:3]
    ]
    assert world.by_name == {"first": post.author}
    assert (world.count, world.mixed) == (3, [1, post])
    assert world.remark.about == post
    data.cleanup()
    assert not any(contents().values())

    for again in (False, True):
        if again:
            forget()
        world = data.scenario("library")
        assert origin(world) == "restored"
        assert world.post is world.post
        assert world.post == post
        assert contents() == first
        assert len(data.created_authors) == Author.objects.using(ALIAS).count()
        data.cleanup()
    assert PLAYED == []


def test_rows_come_behind_those_that_are_restored(data):
    data.scenario("library")
    data.cleanup()
    forget()
    empty()
    world = data.scenario("library")
    highest = Author.objects.using(ALIAS).latest("pk").pk
    assert origin(world) == "restored"
    assert data.create(Author).pk > highest
    assert data.create_batch(Author, 60)[0].pk > highest


def test_values_of_the_test_do_not_collide_with_those_that_are_kept(data):
    world = data.scenario("library")
    AuthorFactory.reset_sequence(0)
    names = {author.name for author in world.authors}
    assert not names & {author.name for author in data.create_batch(Author, 100)}
    kept = set(Product.objects.using(ALIAS).values_list("sku", flat=True))
    assert len(kept) == 50
    drawn = {product.sku for product in data.create_batch(Product, 2000)}
    assert not kept & drawn


def test_a_scenario_leaves_random_values_and_sequences_as_they_were(data):
    random.seed(1)
    expected = random.random()
    random.seed(1)
    AuthorFactory.reset_sequence(7)
    data.scenario("library")
    assert random.random() == expected
    assert data.create(Author).name == "author 7"


def test_a_second_world_beside_the_first_is_made_anew_and_says_so(data):
    first = data.scenario("library")
    second = data.scenario("library")
    assert "made anew: duplicate key value" in repr(second)
    assert second.post != first.post
    assert second.post.title == f"by {second.post.author.name} ({second.post.author.pk - 1})"


def test_scenarios_build_on_each_other(data):
    world = data.scenario("shelves")
    assert origin(world) == "made, and kept"
    assert len(data.created_authors) == Author.objects.using(ALIAS).count()
    data.cleanup()
    assert origin(data.scenario("shelves")) == "restored"
    assert Post.objects.using(ALIAS).filter(title="untracked").exists()


def test_rows_that_it_refers_to_have_to_be_there(data):
    author = data.create(Author)
    assert origin(data.scenario("about_others")) == "made, and kept"
    data.cleanup()
    other = data.create(Author)
    world = data.scenario("about_others")
    assert f"kinds.Post refers to kinds.Author {author.pk}, and not all of them exist" in repr(
        world
    )
    assert world.post.author == other


@pytest.mark.parametrize("name", ["careless", "cruel"])
def test_what_changes_other_rows_is_made_anew_each_time(data, name):
    for _ in range(2):
        data.create(Computed)
        with pytest.warns(RuntimeWarning, match="rows that were there before: kinds.Computed"):
            world = data.scenario(name)
        assert origin(world) == "made anew: it cannot be kept"
    assert len(data.created_authors) == 2


def test_only_what_can_be_kept_is_named(data):
    with pytest.raises(DataError, match=r"'wrong' names 'post', which is b'bytes'"):
        data.scenario("wrong")
    with pytest.raises(DataError, match=r"'useless' returns .*, expected a dict of names"):
        data.scenario("useless")


def test_a_scenario_that_plays_itself_is_told(data):
    for name, path in (("ouroboros", "ouroboros → ouroboros"), ("hen", "hen → egg → hen")):
        with pytest.raises(DataError, match=f"^A scenario cannot play itself: {path}.$"):
            data.scenario(name)
    assert not Author.objects.using(ALIAS).exists()
    data.scenario("shelves")


def test_names_are_found_or_refused_with_the_nearest_one(data):
    assert scenarios.find("kinds.library") is scenarios.find("library") is library
    assert scenarios.find(library) is library
    with pytest.raises(DataError, match=r"no scenario 'libary' in any .* Did you mean 'kinds.lib"):
        data.scenario("libary")
    world = data.scenario(library)
    with pytest.raises(AttributeError, match=r"'library' names no 'psot'. Did you mean 'post'"):
        _ = world.psot
    assert dir(world) == ["authors", "by_name", "count", "mixed", "post", "remark"]


@pytest.mark.parametrize("changed", ["sources", "schema", "own file"])
def test_a_change_has_it_made_anew(data, changed, monkeypatch, tmp_path):
    assert origin(data.scenario("with_sources")) == "made, and kept"
    forget()
    assert origin(data.scenario("with_sources")) == "restored"
    forget()
    with connections[ALIAS].cursor() as cursor:
        if changed == "schema":
            cursor.execute("ALTER TABLE kinds_author ADD COLUMN added int")
        else:
            from tests.support.kinds import extra
            from tests.support.kinds import scenarios as own

            file = tmp_path / "changed.py"
            file.write_text("CHANGED = True")
            monkeypatch.setattr(extra if changed == "sources" else own, "__file__", str(file))
        assert origin(data.scenario("with_sources")) == "made, and kept"
        cursor.execute("ALTER TABLE kinds_author DROP COLUMN IF EXISTS added")


def test_a_file_that_cannot_be_read_is_made_anew(data, tmp_path):
    data.scenario("with_sources")
    (file,) = tmp_path.iterdir()
    for nonsense in (b"", b"PK nonsense", file.read_bytes()[:-30]):
        file.write_bytes(nonsense)
        forget()
        assert origin(data.scenario("with_sources")) == "made, and kept"
    assert RowSnapshot.read(tmp_path / "none") is None


def test_old_files_go(data, tmp_path):
    for number in range(9):
        RowSnapshot([], {}).write(tmp_path / f"a-{number}")
    RowSnapshot([], {}).write(tmp_path / "b-0")
    assert len(list(tmp_path.glob("a-*"))) == 4
    assert len(list(tmp_path.iterdir())) == 5


def test_a_rollback_takes_a_world_back(data):
    for _ in range(2):
        with transaction.atomic(using=ALIAS):
            data.scenario("library")
            transaction.set_rollback(True, using=ALIAS)
        assert not Author.objects.using(ALIAS).exists()
    data.cleanup()
    assert origin(data.scenario("library")) == "restored"


def test_threads_write_one_file_at_once(data, tmp_path):
    snapshot = RowSnapshot([], {"x": {"is": "y" * 100_000}})
    threads = [
        threading.Thread(target=lambda: [snapshot.write(tmp_path / "a-1") for _ in range(20)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert RowSnapshot.read(tmp_path / "a-1") == snapshot
    assert not list(tmp_path.glob("*.partial"))


def test_asyncio_code_has_a_twin(data):
    assert asyncio.run(data.ascenario("with_sources"))


@pytest.mark.django_db
def test_other_databases_make_it_anew():
    with TestDataManager() as data, warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            world = data.scenario("of_any_database")
            assert origin(world) == "made anew: only Postgres restores"
            assert world.author in data.created_authors
        assert Author.objects.count() == 2
    assert not Author.objects.exists()


SCENARIOS = """
    from itkit import scenario

    @scenario
    def crowd(data):
        with open("played", "a") as file:
            file.write("x")
        return {"first": data.create_batch("shop.Customer", 100)[0]}
"""
TESTS = """
    from django.test import TestCase
    from itkit.test import IntegrationMixin, IntegrationTestCase
    from shop.models import Customer, Currency

    class Crowded:
        def test_a(self):
            world = self.data.scenario("crowd")
            assert Customer.objects.count() == 100
            assert Customer.objects.get(email=world.first.email) == world.first

        test_b = test_c = test_a

    class RolledBack(Crowded, IntegrationMixin, TestCase):
        pass

    class Committed(Crowded, IntegrationTestCase):
        pass
"""


@pytest.mark.parametrize("door", SERIAL)
def test_a_scenario_is_made_once_for_all_runs(door, project: Project):
    # The cache is that of all tests.
    project.write("shop/scenarios.py", SCENARIOS.replace("x", door[0]))
    write_tests(project, TESTS)
    for _ in range(2):
        result = enter(door, project)
        assert result.counts == {"passed": 6}, result.output
    assert (project.path / "played").read_text() == door[0]
    folder = Path(project.env["ITKIT_CACHE_DIR"]) / "itkit-entry-scenarios"
    assert folder.stat().st_mode & 0o777 == 0o700


def test_workers_that_make_one_scenario_at_once_do_no_harm(project: Project):
    project.write("shop/scenarios.py", SCENARIOS.replace("100", "101").replace("x", "w"))
    tests = TESTS.replace("100", "101") + "\n".join(
        f"    class More{number}(Crowded, IntegrationMixin, TestCase):\n        pass\n"
        for number in range(4)
    )
    write_tests(project, tests)
    result = project.pytest("--integration", "-n", "4")
    assert result.counts == {"passed": 18}, result.output
    assert 1 <= len((project.path / "played").read_text()) <= 4
    folder = Path(project.env["ITKIT_CACHE_DIR"]) / "itkit-entry-scenarios"
    assert not list(folder.glob("*.partial"))

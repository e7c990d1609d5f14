"""The timeline and errors show the user's own line that awaits asyncio code."""

import pytest

from tests.support.doors import SERIAL, enter, write_tests
from tests.support.projects import Project

SERVICES = """
    import asyncio

    from asgiref.sync import sync_to_async
    from django.core.cache import cache

    from shop.models import Customer


    async def save():
        return await Customer.objects.acreate(email="a@example.com")  # line 10


    async def count():
        return await Customer.objects.acount()  # line 14


    async def look():
        await asyncio.open_connection("api.example.com", 443)  # line 18


    def clear():
        Customer.objects.all().delete()  # line 22


    async def hand_over():
        await sync_to_async(clear)()
        await sync_to_async(cache.set, thread_sensitive=False)("k", "v")
        await asyncio.gather(count(), count())
"""
TESTS = """
    from django.test import AsyncClient

    from itkit.exceptions import DataError
    from itkit.test import IntegrationTestCase
    from shop import services


    class Awaits(IntegrationTestCase):
        async def test_places(self):
            await services.save()
            await services.count()
            await services.hand_over()
            await AsyncClient().get("/acount/")
            print("", *(f"PLACE {site}" for site in map(str, self.places())), sep="\\n")

        def places(self):
            from itkit.timeline import core

            return [entry.site for entry in core.current() if entry.site]

        async def test_data_says_how(self):
            for call in (
                lambda: self.data.create("shop.Customer"),
                lambda: self.data.create_batch("shop.Customer", 2),
                lambda: self.data.create_batch("shop.Customer", 2, bulk="never"),
            ):
                with self.assertRaisesMessage(DataError, "write: await data.acreate(...)"):
                    call()
            await self.data.acreate("shop.Customer")

        async def test_red(self):
            await services.look()
"""
VIEWS = """
    from django.http import HttpResponse
    from django.urls import path

    from shop import services

    async def view(request):
        return HttpResponse(str(await services.count()))

    urlpatterns = [path("acount/", view)]
"""


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize("door", SERIAL)
@pytest.mark.slow
def test_the_place_is_that_of_the_awaiting_coroutine(door: str, project: Project) -> None:
    project.write("shop/services.py", SERVICES)
    project.write("urls.py", VIEWS)
    write_tests(project, TESTS)
    result = enter(door, project, *(["-s"] if door == "pytest" else []))
    assert result.counts == {"passed": 2, "failed": 1}, result.output
    lines = SERVICES.splitlines()
    number = {
        n: next(i for i, line in enumerate(lines, 1) if f"# line {n}" in line)
        for n in (10, 14, 18, 22)
    }
    found = [
        line.removeprefix("PLACE ")
        for line in result.output.splitlines()
        if line.startswith("PLACE ")
    ]
    expected = {
        f"shop/services.py:{number[10]} in save",
        f"shop/services.py:{number[14]} in count",
        f"shop/services.py:{number[22]} in clear",
    }
    assert set(found) == expected, result.output
    assert found.count(f"shop/services.py:{number[14]} in count") >= 4
    assert f"from shop/services.py:{number[18]} in look" in result.output
    assert "to fake it:" in result.output


TASKS = """
    import asyncio

    from asgiref.sync import sync_to_async
    from django.core.cache import cache

    from shop.models import Customer


    async def work():
        await asyncio.gather(Customer.objects.acount())
        async with asyncio.TaskGroup() as group:
            group.create_task(Customer.objects.acount())
        await asyncio.wait_for(Customer.objects.acount(), 9)
        await asyncio.shield(Customer.objects.acount())
        await asyncio.ensure_future(Customer.objects.acount())


    async def look():
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.open_connection("api.example.com", 443))


    async def swallow():
        try:
            await look()
        except* Exception:
            pass
"""
IN_TASKS = """
    from itkit.test import IntegrationTestCase
    from shop import services


    class Awaits(IntegrationTestCase):
        async def test_places(self):
            await services.work()
            from itkit.timeline import core

            print("", *(f"PLACE {entry.site}" for entry in core.current() if entry.site), sep="\\n")

        async def test_red(self):
            await services.look()

        async def test_swallowed(self):
            await services.swallow()
"""


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize("door", SERIAL)
def test_the_place_of_a_task_is_that_where_it_was_made(door: str, project: Project) -> None:
    project.write("shop/services.py", TASKS)
    write_tests(project, IN_TASKS)
    result = enter(door, project, *(["-s"] if door == "pytest" else []))
    found = [line for line in result.output.splitlines() if line.startswith("PLACE ")]
    lines = [n for n, line in enumerate(TASKS.splitlines(), 1) if ".acount()" in line]
    assert len(lines) == 5
    expected = [f"PLACE shop/services.py:{number} in work" for number in lines]
    assert found == expected, result.output
    number = next(n for n, line in enumerate(TASKS.splitlines(), 1) if "open_conn" in line)
    assert f"from shop/services.py:{number} in look" in result.output
    assert result.output.count("The application has swallowed") == 1, result.output
    if door == "pytest":
        assert result.counts["failed"] + result.counts.get("error", 0) == 2, result.output
    else:
        assert "errors=1" in result.output, result.output
        assert "failures=1" in result.output

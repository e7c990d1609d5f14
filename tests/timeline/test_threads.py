"""What a thread of a pool or a server does belongs to the test that has submitted it."""

import pytest

from tests.support.doors import SERIAL
from tests.support.projects import Project
from tests.support.verdicts_project import failed, judged

pytestmark = pytest.mark.usefixtures("shared_servers", "beside_a_developer")

TESTS = """
    import asyncio
    import threading
    from concurrent.futures import ThreadPoolExecutor
    from http.client import HTTPConnection
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from multiprocessing.pool import ThreadPool

    from asgiref.sync import sync_to_async
    from django.core.cache import cache

    from itkit.test import IntegrationTestCase
    from shop import app
    from shop.gateways import Stripe
    from shop.models import Customer


    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # the connection is kept

        def do_GET(self):
            app.pay_and_swallow()
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
            if self.path == "/slow":  # its client has the answer already
                Shared.go.wait(30)
                app.pay_and_swallow()
                Shared.done.release()

        def log_message(self, *args):
            pass


    class Shared(IntegrationTestCase):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            Shared.go, Shared.done = threading.Event(), threading.Semaphore(0)
            Shared.executor = ThreadPoolExecutor(4)
            Shared.pool = ThreadPool(4)
            Shared.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            Shared.serving = threading.Thread(target=Shared.server.serve_forever)
            Shared.serving.start()
            Shared.connection = HTTPConnection(*Shared.server.server_address)

        @classmethod
        def tearDownClass(cls):
            Shared.connection.close()
            Shared.server.shutdown()
            Shared.serving.join()
            Shared.server.server_close()
            Shared.executor.shutdown()
            Shared.pool.close()
            super().tearDownClass()

        def get(self, path):
            self.connection.request("GET", path)
            return self.connection.getresponse().read()

        def setUp(self):
            self.backends.payments.charge.returns("txn")

        @staticmethod
        def late(does):
            def work(*_):
                Shared.go.wait(30)
                try:
                    does()
                finally:
                    Shared.done.release()

            return work

        # Its workers are started by this test, and serve those after it.
        def test_a_all_have_served(self):
            for _ in range(4):
                self.executor.submit(app.pay).result()
            self.pool.map(lambda _: app.pay(), range(2))
            self.get("/")
            self.backends.payments.charge.assert_called(7)

        def test_b_red_a_executor_calls_late(self):
            self.executor.submit(self.late(app.pay_and_swallow))

        def test_b_red_b_pool_calls_late(self):
            self.pool.map_async(self.late(app.pay_and_swallow), range(1))

        def test_b_red_c_executor_of_asyncio_calls_late(self):
            async def main():
                asyncio.get_running_loop().run_in_executor(
                    self.executor, self.late(app.pay_and_swallow)
                )

            asyncio.run(main())

        def test_b_red_d_row_comes_late(self):
            def save():
                app.call(lambda: Customer.objects.create(email="late@example.com"))
                from django.db import connection
                connection.close()

            self.executor.submit(self.late(save))

        def test_b_red_e_key_comes_late(self):
            self.pool.apply_async(self.late(lambda: app.call(lambda: cache.set("late", 1))))

        def test_b_red_f_keys_come_late_in_a_pipeline(self):
            thread = threading.Thread(
                target=self.late(lambda: app.call(lambda: cache.set_many({"piped": 1, "two": 2})))
            )
            thread.start()

        def test_b_red_g_request_is_still_worked_on(self):
            connection = HTTPConnection(*Shared.server.server_address)
            connection.request("GET", "/slow")
            connection.getresponse().read()
            connection.close()

        def test_c_the_innocent_test_has_none_of_it(self):
            Shared.go.set()
            for _ in range(7):
                self.assertTrue(Shared.done.acquire(timeout=30))
            self.assertFalse(Customer.objects.exists())
            self.assertIsNone(cache.get("late"))
            self.backends.payments.charge.assert_never_called()

        def test_d_what_is_submitted_now_is_counted_now(self):
            self.executor.submit(app.pay).result()
            self.pool.apply(app.pay)
            asyncio.run(sync_to_async(app.pay, thread_sensitive=False)())
            self.get("/")
            self.backends.payments.charge.assert_called(4)
            self.assertEqual(self.executor.submit(Customer.objects.count).result(), 0)
            self.executor.submit(self.close).result()
            self.pool.apply(self.close)

        @staticmethod
        def close():
            from django.db import connections
            connections.close_all()
"""


@pytest.mark.parametrize("door", SERIAL)
def test_work_belongs_to_the_test_that_has_submitted_it(door, project: Project):
    result = judged(door, project, TESTS)

    assert "test_c_the_innocent_test_has_none_of_it" not in failed(result)
    late = "payments.charge was called after the test that submitted the work of"
    assert result.output.count(late) == 3, result.output
    for what in ("INSERT shop_customer", "SET :1:late", "SET :1:piped"):
        assert what in result.output

"""Keys that no two tables have in common, so that the key of the wrong row is noticed."""

from django.apps import apps
from django.db import connection


def keep_keys_apart():
    """Let the keys of each table of the shop begin elsewhere, in this test."""
    tables = [model._meta.db_table for model in apps.get_app_config("shop").get_models()]
    starts = [(table, 1000 * number) for number, table in enumerate(tables, 1)]
    with connection.cursor() as cursor:
        cursor.executemany("SELECT setval(pg_get_serial_sequence(%s, 'id'), %s)", starts)

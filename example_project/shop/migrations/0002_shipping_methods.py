"""The shop's own shipping methods."""

from decimal import Decimal

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

METHODS = [
    ("standard", "Standard", Decimal("4.90")),
    ("express", "Express", Decimal("12.90")),
]


def create_methods(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    method = apps.get_model("shop", "ShippingMethod")
    method.objects.using(schema_editor.connection.alias).bulk_create(
        method(code=code, name=name, price=price) for code, name, price in METHODS
    )


def delete_methods(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    method = apps.get_model("shop", "ShippingMethod")
    codes = [code for code, _, _ in METHODS]
    method.objects.using(schema_editor.connection.alias).filter(code__in=codes).delete()


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]

    operations = [migrations.RunPython(create_methods, delete_methods)]

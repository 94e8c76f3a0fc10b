"""Background functions of the app: Django is set up before this module is imported."""

from django.apps import apps
from django.db import connection

from deferlite import defer
from shop.models import Product


@defer
def count_products(names: list[str]) -> dict[str, object]:
    """Makes the table, fills it and counts, in a database of this execution alone."""
    with connection.schema_editor() as editor:
        editor.create_model(Product)
    Product.objects.bulk_create(Product(name=name) for name in names)
    return {"count": Product.objects.count(), "app": apps.get_app_config("shop").verbose_name}

"""The log-in of users that an alias creates: a unique address and a password that is known."""

from functools import cache
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import models

from itkit.data.factories import factories, lookup
from itkit.data.unique import UniqueValues

PASSWORD: Final = "test_password"  # noqa: S105 - the documented one of every user of a test


def completed(
    model: type[models.Model], values: dict[str, Any], unique: UniqueValues
) -> dict[str, Any]:
    """Return ``values`` with an e-mail address, and with a password in the form that is stored.

    A factory that hashes passwords itself gets the plain password. The values of models that do not
    log in stay as they are.
    """
    if not _logs_in(model):
        return values
    values = dict(values)
    if lookup.field_of(model, "email"):
        values.setdefault("email", unique.email())
    password = values.get("password", PASSWORD)
    values["password"] = password if _is_hashed_later(model) else _hashed(password)
    return values


def _logs_in(model: type[models.Model]) -> bool:
    return hasattr(model, "check_password") and lookup.field_of(model, "password") is not None


def _is_hashed_later(model: type[models.Model]) -> bool:
    factory = factories.of_model(model)
    return factory is not None and factories.hashes(factory, "password")


def _hashed(password: str) -> str:
    return _hashed_by(tuple(settings.PASSWORD_HASHERS), password)


@cache
def _hashed_by(hashers: tuple[str, ...], password: str) -> str:
    # A hash is slow by design, so it is made once; ``hashers`` is a part of the cache's key.
    return make_password(password)

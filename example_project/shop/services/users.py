"""Users: registration, and profiles that are read through the cache."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial

from django.core.cache import cache
from django.db import transaction

from example_project.shop.models import User
from example_project.shop.services import notifications


@dataclass(frozen=True)
class Profile:
    """What other parts of the shop need to know of a user."""

    id: int
    email: str
    is_active: bool


def create_user(email: str, password: str | None = None) -> User:
    """Create a user."""
    return User.objects.create_user(email, password)


@transaction.atomic
def register_user(email: str, password: str) -> User:
    """Create a user and send the welcome mail once that is committed."""
    user = create_user(email, password)
    transaction.on_commit(partial(notifications.send_welcome, user))
    return user


def get_user(user_id: int) -> Profile | None:
    """Return a user's profile, or None."""
    return get_users_bulk([user_id]).get(user_id)


def get_users_bulk(user_ids: Iterable[int]) -> dict[int, Profile]:
    """Return the profiles that exist, by id, with at most one query."""
    keys = {_key(user_id): user_id for user_id in user_ids}
    cached = cache.get_many(keys)
    profiles = {keys[key]: Profile(**fields) for key, fields in cached.items()}
    missing = keys.keys() - cached.keys()
    return profiles | _load([keys[key] for key in missing]) if missing else profiles


def delete_user(user_id: int) -> None:
    """Delete a user who has no orders."""
    User.objects.filter(pk=user_id).delete()
    transaction.on_commit(partial(cache.delete, _key(user_id)))


def _load(user_ids: list[int]) -> dict[int, Profile]:
    rows = User.objects.filter(pk__in=user_ids).values_list("id", "email", "is_active")
    profiles = {row[0]: Profile(*row) for row in rows}
    cache.set_many({_key(profile.id): asdict(profile) for profile in profiles.values()})
    return profiles


def _key(user_id: int) -> str:
    return f"user:{user_id}"

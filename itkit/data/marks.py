"""Marked values, which are found wherever they turn up: those of a bystander, and secrets."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple, Protocol

from django.core.validators import DecimalValidator, MaxLengthValidator
from django.db import models

from itkit.data.unique import UniqueValues
from itkit.exceptions import DataError
from itkit.timeline.callsite import CallSite

STEM: Final = "canary"
"""What each mark that is a text begins with."""
_WHOLE_DIGITS: Final = 6
_DECIMALS: Final = 2
_SMALLEST: Final = 10 ** (_WHOLE_DIGITS - 1)
_FORMS: Final = {
    models.CharField: "{}",
    models.TextField: "{}",
    models.SlugField: "{}",
    models.EmailField: "{}@example.com",
    models.URLField: "https://example.com/{}",
}
"""How a mark is written into a column of each kind. Fields of the project's own may have rules."""
_OWN_VALIDATORS: Final = (MaxLengthValidator, DecimalValidator)
_UNMARKED: Final = (
    "{0} has no column left for a mark: a bystander is known by its texts, and by decimal numbers"
    " of {1} digits before the point. Left out are keys, passwords, choices, texts with a"
    " default, short columns, those with validators, and those whose values the test gives. Make"
    " the bystander of a model that has such a column, and let other rows refer to it."
)


class MarkedValue(NamedTuple):
    """A value that must not turn up elsewhere.

    Attributes:
        text: the value, or the part of it that is looked for.
        what: says what it is, such as ``shop.User.email of a bystander``.
        site: the line of the test that has made it.
        allowed: names or patterns of where it may be; None for that of a bystander,
            which may be in its own row only.
    """

    text: str
    what: str
    site: CallSite
    allowed: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return f"{self.what} made at {self.site}"


class MarkWatch(Protocol):
    """Finds the marks that turn up: ``itkit.observation.canaries`` does."""

    def add(self, marks: Sequence[MarkedValue]) -> None:
        """Look for marks from now on; where they are by now, they may be."""

    def look(self) -> None:
        """Look for marks in all that a test has left until now."""

    def forget(self, marks: Collection[MarkedValue]) -> None:
        """Look for these marks no more."""


def values_of(
    model: type[models.Model], given: Mapping[str, Any], unique: UniqueValues
) -> dict[str, Any]:
    """Return a marked value for each field of a model that can have one.

    Args:
        model: the model of the bystander.
        given: the values that the test gives, whose fields have no mark.
        unique: draws the marks.

    Raises:
        DataError: there is no such field.
    """
    referred = {
        relation.field_name
        for relation in model._meta.related_objects
        if isinstance(relation, models.ManyToOneRel)
    }
    # The key of a row that a generic key refers to.
    referred |= {getattr(field, "fk_field", "") for field in model._meta.private_fields}
    found: dict[str, Any] = {}
    for field in model._meta.concrete_fields:
        if field.name in given or field.name in referred or not _may_be_marked(model, field):
            continue
        value = _value_of(field, unique)
        if value is not None:
            found[field.name] = value
    if not found:
        raise DataError(_UNMARKED.format(model._meta.label, _WHOLE_DIGITS))
    return found


def of_row(
    model: type[models.Model], values: Mapping[str, Any], site: CallSite
) -> Iterator[MarkedValue]:
    """Yield the marks of a bystander."""
    for name, value in values.items():
        yield MarkedValue(_searched(value), f"{model._meta.label}.{name} of the bystander", site)


def secret_text(unique: UniqueValues) -> str:
    """Return a secret that no other test has."""
    return f"{STEM}{unique.hex()}"


def _may_be_marked(model: type[models.Model], field: Any) -> bool:
    is_password = field.name == "password" and hasattr(model, "set_password")
    if is_password or field.primary_key or field.choices or not field.editable:
        return False
    if field.has_default() and isinstance(default := field.get_default(), str) and default:
        return False  # one of a few words, such as that of a status
    own = (*field.default_validators,)
    return all(one in own or isinstance(one, _OWN_VALIDATORS) for one in field.validators)


def _value_of(field: Any, unique: UniqueValues) -> Any:
    """Return a marked value for a field; None where it has no room for one."""
    if type(field) is models.DecimalField:
        return _number_of(field, unique)
    form = _FORMS.get(type(field))
    if form is None:
        return None
    value = form.format(secret_text(unique))
    return value if field.max_length is None or len(value) <= field.max_length else None


def _number_of(field: Any, unique: UniqueValues) -> Decimal | None:
    digits = field.decimal_places or 0
    if digits < 1 or (field.max_digits or 0) - digits < _WHOLE_DIGITS:
        return None
    shown = min(digits, _DECIMALS)
    scale = 10**shown
    number = _SMALLEST * scale + unique.number(9 * _SMALLEST * scale)
    return Decimal(number).scaleb(-shown)


def _searched(value: Any) -> str:
    """Return the part of a value that no other value has."""
    text = str(value)
    start = text.find(STEM)
    return text[start : start + len(STEM) + 8] if start >= 0 else text

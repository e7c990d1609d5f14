"""A service that is a module, as those of ``example_project`` are."""


def half(number: int) -> int:
    """Return a half, rounded up."""
    return _even(number) // 2


def _even(number: int) -> int:
    if number % 2:
        number += 1
    return number

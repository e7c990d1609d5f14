"""Which faults a test, an option and the settings choose, and which errors a backend raises."""

import pytest

from itkit import FaultError, sweep
from itkit.backends import faults, resolve
from itkit.sweep.choosing import Choice, FaultPair, FaultSpec, choice_of, parse_fault


class GatewayError(Exception):
    pass


class DeclinedError(GatewayError):
    pass


class UnrelatedError(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(code)


class Gateway:
    """Raises GatewayError."""

    def charge(self) -> str: ...


class Silent:
    pass


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("payments.charge#2:lost_reply", ("payments.charge", 2, "lost_reply")),
        ("COMMIT:crash_after", ("COMMIT", 1, "crash_after")),
        ("SET cart:5#1:TimeoutError", ("SET cart:5", 1, "TimeoutError")),
        ("SET #a:error", ("SET #a", 1, "error")),
    ],
)
def test_a_fault_is_read_from_a_text(text: str, spec: tuple[str, int, str]) -> None:
    found = FaultSpec.parse(text)
    assert found == spec
    assert FaultSpec.parse(str(found)) == spec


def test_two_faults_are_read_from_a_text() -> None:
    found = parse_fault("COMMIT#2:error then payments.*:timeout")
    assert found == FaultPair(
        FaultSpec("COMMIT", 2, "error"), FaultSpec("payments.*", 1, "timeout")
    )
    assert parse_fault(str(found)) == found
    with pytest.raises(FaultError, match="'nothing' names no fault"):
        parse_fault("COMMIT#2:error then nothing")


@pytest.mark.parametrize("text", ["", "COMMIT", ":error", "COMMIT:", "COMMIT#0:error"])
def test_what_is_no_fault_is_refused(text: str) -> None:
    with pytest.raises(FaultError, match="names no fault"):
        FaultSpec.parse(text)


def test_a_choice_is_by_names_patterns_and_words() -> None:
    choice = Choice(at=("payments.*", "COMMIT"), kinds=("error", "crash"), skip=("*.refund",))
    assert not choice.leaves_out("payments.charge")
    assert choice.leaves_out("payments.refund")
    assert choice.leaves_out("INSERT shop_order")
    kinds = ("CardDeclined", "crash_after", "crash_before", "lost_reply", "run_twice")
    assert [choice.has(kind) for kind in kinds] == [True, True, False, False, False]


def test_a_decorated_test_keeps_its_signature_and_says_what_was_chosen() -> None:
    @sweep.faults(at=["COMMIT"])
    def test(fault: object, other: int) -> tuple[object, int]:
        return fault, other

    assert choice_of(test) == Choice(at=("COMMIT",))
    assert test(1, other=2) == (1, 2)
    with pytest.raises(FaultError, match=r"at is 'COMMIT', expected a list: write at=\['COMMIT'\]"):
        sweep.faults(at="COMMIT")


def test_a_backend_raises_what_its_module_has_the_most_general_first() -> None:
    assert [error.kind for error in faults.found(Gateway)] == [GatewayError, DeclinedError]
    found = [error.kind for error in faults.found(Silent)]  # which names none
    assert {GatewayError, DeclinedError} <= set(found)
    assert UnrelatedError not in found  # nobody can make one without a code
    (error,) = faults.found(int)  # of whose module nothing is known
    assert error.kind is ConnectionError


def test_an_error_that_no_sweep_can_raise_is_a_mistake_in_the_settings(settings) -> None:
    names = [f"{__name__}.UnrelatedError", f"{__name__}.Silent", f"{__name__}.Missing"]
    settings.ITKIT = {
        "BACKENDS": {
            "payments": {
                "TARGET": f"{__name__}.Gateway",
                "FAULTS": [*names, f"{__name__}.DeclinedError"],
            }
        }
    }
    found = {mistake.number: mistake.message for mistake in resolve.mistakes()}
    assert sorted(mistake.number for mistake in resolve.mistakes()) == [5, 15, 15]
    assert "Silent': it is no class of exceptions" in found[15]

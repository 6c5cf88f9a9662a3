"""The error type: what it carries, also over a process border."""

import pickle

import pytest

from app import errors
from app.outbound.mail import MailFailed


def test_an_error_carries_code_message_and_detail() -> None:
    error = errors.Conflict("key-taken", "this key has another body", detail={"job_id": 7})
    assert (error.code, error.message, error.detail) == (
        "key-taken",
        "this key has another body",
        {"job_id": 7},
    )
    assert str(error) == "this key has another body [key-taken]"


@pytest.mark.parametrize("kind", errors.AppError.__subclasses__())
def test_every_kind_survives_the_way_out_of_a_handler_process(kind: type[errors.AppError]) -> None:
    back = pickle.loads(pickle.dumps(kind("a-code", "a message", detail={"n": 1})))  # noqa: S301 - our own bytes
    assert type(back) is kind
    assert (back.code, back.message, back.detail) == ("a-code", "a message", {"n": 1})


def test_what_a_kind_has_beside_survives_as_well() -> None:
    error = MailFailed("mail-refused", "refused", error_class="permanent")
    assert pickle.loads(pickle.dumps(error)).error_class == "permanent"  # noqa: S301 - our own bytes

"""Settings: defaults, the environment, and errors that name the variable."""

import pytest
from pydantic import ValidationError

from app.config import load_settings
from app.errors import ConfigurationError


def test_without_environment_everything_has_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    settings = load_settings()
    assert settings.database_url is None
    assert settings.worker.lease_seconds == 30
    assert settings.conversations.fallback_delay_seconds == 600


def test_the_environment_sets_groups_maps_and_the_two_names_without_prefix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://db/app")
    monkeypatch.setenv("DATABASE_LISTEN_URL", "postgresql://direct/app")
    monkeypatch.setenv("TANDEM_WORKER__LEASE_SECONDS", "4.5")
    monkeypatch.setenv("TANDEM_WORKER__QUEUES", '{"mail": 3}')
    settings = load_settings()
    assert settings.database_url == "postgresql://db/app"
    assert settings.database_listen_url == "postgresql://direct/app"
    assert settings.worker.lease_seconds == 4.5
    assert settings.worker.queues == {"mail": 3}


def test_an_empty_address_means_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "")
    assert load_settings().database_url is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TANDEM_WORKER__LEASE_SECONDS", "-1"),
        ("TANDEM_WORKER__LEASE_SECOND", "30"),
        ("TANDEM_API__PORT", "70000"),
        ("TANDEM_WORKER__MODE", "sometimes"),
    ],
)
def test_a_wrong_value_or_name_is_refused_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=variable) as caught:
        load_settings()
    assert caught.value.code == "invalid-settings"


def test_settings_do_not_change_and_do_not_print_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hunter2@db/app")
    settings = load_settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.worker.slots = 1  # type: ignore[misc]
    assert "hunter2" not in repr(settings)

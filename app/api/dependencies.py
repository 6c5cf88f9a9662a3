"""What endpoints ask for: the process's settings, its way to the database, its kinds; create_app sets them."""

from typing import Annotated, cast

from fastapi import Depends, Request

from app.api.access import Access
from app.config import Settings
from app.queue.kinds import Registry


# Coroutines, because FastAPI runs plain functions in a thread.
async def get_access(request: Request) -> Access:
    """The way to the database."""
    return cast(Access, request.app.state.access)


async def get_settings(request: Request) -> Settings:
    """The settings of this process."""
    return cast(Settings, request.app.state.settings)


async def get_registry(request: Request) -> Registry:
    """The kinds that this process knows, for their hooks."""
    return cast(Registry, request.app.state.registry)


def access_of(request: Request) -> Access:
    """The way to the database without FastAPI's injection, whose share of a hot call was 20 us for each value."""
    return cast(Access, request.app.state.access)


def settings_of(request: Request) -> Settings:
    """The settings, likewise."""
    return cast(Settings, request.app.state.settings)


AccessDep = Annotated[Access, Depends(get_access)]
SettingsDep = Annotated[Settings, Depends(get_settings)]
RegistryDep = Annotated[Registry, Depends(get_registry)]

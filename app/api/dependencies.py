"""What endpoints ask for: the process's settings and its way to the database, both set by create_app."""

from typing import Annotated, cast

from fastapi import Depends, Request

from app.api.access import Access
from app.config import Settings


# Coroutines, because FastAPI runs plain functions in a thread.
async def get_access(request: Request) -> Access:
    """The way to the database."""
    return cast(Access, request.app.state.access)


async def get_settings(request: Request) -> Settings:
    """The settings of this process."""
    return cast(Settings, request.app.state.settings)


AccessDep = Annotated[Access, Depends(get_access)]
SettingsDep = Annotated[Settings, Depends(get_settings)]

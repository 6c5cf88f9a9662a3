"""The API's own description: /openapi.json and the page /docs, for callers who may read them."""

from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse

from app.api.auth import requires

router = APIRouter(include_in_schema=False, dependencies=[Depends(requires("docs:read"))])


@router.get("/openapi.json")
async def document(request: Request) -> dict[str, Any]:
    """The OpenAPI document."""
    made: dict[str, Any] = request.app.openapi()
    return made


@router.get("/docs")
async def page(request: Request) -> HTMLResponse:
    """A page to read it and try it out."""
    return get_swagger_ui_html(openapi_url="/openapi.json", title=request.app.title)

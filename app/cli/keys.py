"""`tandem keys`: API keys: create, list, revoke. What happens is in app/api/keys.py."""

from datetime import timedelta
from typing import Annotated, Any

import typer

from app.cli.connected import ask, operator
from app.cli.output import Json, answer, table
from app.cli.values import parse_age

app = typer.Typer(no_args_is_help=True, help="API keys: create, list, revoke.")

NEVER = "never"
LIST = {
    "id": "id",
    "name": "name",
    "state": "state",
    "roles": "roles",
    "scopes": "scopes",
    "claims": "claims",
    "created_at": "created",
    "expires_at": "expires",
    "last_used_at": "last used",
}


def register(parent: typer.Typer) -> None:
    """Add this group to the command line."""
    parent.add_typer(app, name="keys")


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is; callers appear as key:NAME.")],
    role: Annotated[list[str], typer.Option(help="What it may do: admin, operator, auditor, system, ...")],
    scope: Annotated[
        list[str] | None, typer.Option(help="Narrow the roles to this permission: jobs:read, jobs:*")
    ] = None,
    claim: Annotated[
        list[str] | None, typer.Option(help="A statement about the caller: customer=acme, tier=vip")
    ] = None,
    expires: Annotated[str, typer.Option(metavar="AGE", help="When it ends: 12h, 90d, or never.")] = "90d",
    as_json: Json = False,
) -> None:
    """Make an API key and show it, this once: only a hash of it is kept.

    Example: tandem keys create billing --role system --scope conversations:write --expires 30d
    """
    from app.api.keys import create_key

    claims = dict(_claim(one) for one in claim or [])
    made = ask(
        lambda connection: create_key(
            connection,
            name,
            roles=role,
            scopes=scope or [],
            claims=claims,
            lifetime=_lifetime(expires),
            by=operator(),
        )
    )
    facts = {"id": made.id, "key": made.clear, "name": name}
    text = f"{made.clear}\n\nIt is not shown again. Send it as: Authorization: Bearer {made.clear[:11]}..."
    answer(facts, text, as_json=as_json)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the keys with what they may do, when they end, and when they were used last.

    Example: tandem keys list
    """
    from app.api.keys import list_keys

    rows = ask(list_keys)
    shown = [row | {name: _words(row[name]) for name in ("roles", "scopes", "claims")} for row in rows]
    answer({"keys": rows}, table(LIST, shown, empty="no keys yet"), as_json=as_json)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID", help="The key's id (`tandem keys list`).")],
    as_json: Json = False,
) -> None:
    """End a key at once; API processes forget it within a few seconds.

    Example: tandem keys revoke k3v9x0q2m7ab
    """
    from app.api.keys import revoke_key

    ask(lambda connection: revoke_key(connection, key, by=operator()))
    answer({"id": key, "revoked": True}, f"{key} is revoked", as_json=as_json)


def _lifetime(text: str) -> timedelta | None:
    return None if text == NEVER else parse_age(text)


def _claim(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise typer.BadParameter(f"--claim {text!r}: write it like customer=acme")
    return name, value


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={one}" for name, one in value.items())
    return " ".join(value)

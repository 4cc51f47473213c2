"""``relaxcert properties``: list, show and check property documents."""

from __future__ import annotations

from typing import Annotated

import typer

from relaxcert.cli.common import console, property_in_words, table
from relaxcert.report.verdicts import to_json
from relaxcert.spec.canonical import canonical_json, digest
from relaxcert.spec.catalogue import catalogue, load_document
from relaxcert.spec.documents import json_schema, read_document

app = typer.Typer(invoke_without_command=True)


@app.callback()
def properties(
    context: typer.Context,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of a document.")
    ] = False,
) -> None:
    """List, show and check property documents.

    Examples: [bold]relaxcert properties list[/bold],
    [bold]relaxcert properties show landsat/soils[/bold],
    [bold]relaxcert properties check my-property.toml[/bold]
    """
    if schema:
        typer.echo(to_json(json_schema(), indent=2))
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("list")
def list_() -> None:
    """List the catalogue.

    Example: [bold]relaxcert properties list[/bold]
    """
    rows = [[name, load_document(name).title] for name in catalogue()]
    console().print(table("Properties that ship", ("name", "what it says"), rows))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A name of the catalogue, or a path to a .toml.")],
    canonical: Annotated[
        bool, typer.Option("--canonical", help="Print the canonical JSON only.")
    ] = False,
) -> None:
    """Show a property: what it says, its source, its digest, its document.

    Example: [bold]relaxcert properties show acasxu/adjacent-advisories[/bold]
    """
    document = load_document(name)
    prop = document.to_property()
    if canonical:
        typer.echo(canonical_json(prop))
        return
    out = console()
    out.print(document.title or document.name, style="bold", markup=False)
    out.print(f"{property_in_words(prop)}\nsha256 {digest(prop)}\n", markup=False, soft_wrap=True)
    typer.echo(document.to_toml())


@app.command()
def check(
    path: Annotated[str, typer.Argument(help="The document to check.")],
) -> None:
    """Check a document: exit status 0 if it is well formed, 2 with one clear message if not.

    Example: [bold]relaxcert properties check my-property.toml[/bold]
    """
    document = read_document(path)
    prop = document.to_property()
    typer.echo(f"{path}: ok, {property_in_words(prop)}\nsha256 {digest(prop)}")

"""``relaxcert properties``: list, show and check property documents."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated, Any

import typer

from relaxcert.cli.common import Json, console, property_in_words, table
from relaxcert.report.verdicts import to_json
from relaxcert.spec.canonical import canonical_json, digest
from relaxcert.spec.catalogue import catalogue, load_document
from relaxcert.spec.documents import PropertyDocument, json_schema, read_document
from relaxcert.spec.property import Property

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
def list_(json: Json = False) -> None:
    """List the catalogue.

    Example: [bold]relaxcert properties list[/bold]
    """
    titles = {name: load_document(name).title for name in catalogue()}
    if json:
        listed = [{"name": name, "title": title} for name, title in titles.items()]
        typer.echo(to_json(listed, indent=2))
        return
    rows = [[name, title] for name, title in titles.items()]
    console().print(table("Properties that ship", ("name", "what it says"), rows))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A name of the catalogue, or a path to a .toml.")],
    canonical: Annotated[
        bool, typer.Option("--canonical", help="Print the canonical JSON only.")
    ] = False,
    json: Json = False,
) -> None:
    """Show a property: what it says, its source, its digest, its document.

    Example: [bold]relaxcert properties show acasxu/adjacent-advisories[/bold]
    """
    document = load_document(name)
    prop = document.to_property()
    if canonical:
        typer.echo(canonical_json(prop))
        return
    if json:
        typer.echo(to_json(_as_dict(document, prop), indent=2))
        return
    out = console()
    out.print(document.title or document.name, style="bold", markup=False)
    out.print(f"{property_in_words(prop)}\nsha256 {digest(prop)}\n", markup=False, soft_wrap=True)
    typer.echo(document.to_toml())


@app.command()
def check(
    path: Annotated[str, typer.Argument(help="The document to check.")],
    json: Json = False,
) -> None:
    """Check a document: exit status 0 if it is well formed, 2 with one clear message if not.

    Example: [bold]relaxcert properties check my-property.toml[/bold]
    """
    document = read_document(path)
    prop = document.to_property()
    if json:
        typer.echo(to_json({"path": path, "ok": True, **_as_dict(document, prop)}, indent=2))
        return
    typer.echo(f"{path}: ok, {property_in_words(prop)}\nsha256 {digest(prop)}")


def _as_dict(document: PropertyDocument, prop: Property) -> dict[str, Any]:
    return {
        "name": document.name,
        "title": document.title,
        "source": document.source,
        "num_classes": document.num_classes,
        "class_names": document.class_names,
        "property": jsonlib.loads(canonical_json(prop)),
        "digest": digest(prop),
    }

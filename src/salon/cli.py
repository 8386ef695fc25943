"""The command line: one command per stage of the pipeline, in its order, and then those beside it.

Heavy imports sit inside the commands.
"""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from salon.params import Params, load_params
from salon.paths import Paths

STAGES = "Stages of the pipeline, in order"
COMMANDS = "Other commands"

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


@app.callback()
def salon() -> None:
    """Text-to-image methods on your captions: train, judge, register and serve them."""


MethodName = Annotated[str, typer.Argument(help="A method of params.yaml, e.g. diffusion.")]


def workspace() -> tuple[Params, Paths]:
    """The parameters and paths of the current folder."""
    paths = Paths()
    return load_params(paths.params), paths


def run(module: str, *arguments: Any, **options: Any) -> None:
    """Import a stage or a command, and run it in the current folder."""
    import_module(f"salon.{module}").run(*workspace(), *arguments, **options)


@app.command(rich_help_panel=STAGES)
def ingest() -> None:
    """Read captioned pictures from the source into Parquet shards."""
    run("stages.ingest")


@app.command(rich_help_panel=STAGES)
def validate(
    source: Annotated[
        str | None, typer.Option(help="Check this source instead; nothing in the workspace changes.")
    ] = None,
    path: Annotated[Path | None, typer.Option(help="File or folder that the source reads.")] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Keep the figures of these data in data/accepted.json.")
    ] = False,
    fail_on_drift: Annotated[
        bool, typer.Option("--fail-on-drift", help="Fail when the data are not like the accepted ones.")
    ] = False,
    metadata_only: Annotated[
        bool, typer.Option("--metadata-only", help="Do not open the pictures: quick, and no verdict.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="With --source or --path: write the summary here, in Markdown.")
    ] = None,
) -> None:
    """Check every ingested row; fail with the rows and reasons when the data are not fit to train on.

    Exit status: 0 the data pass; 1 nothing could be checked (a wrong option, setting or path); 2 a check
    failed; 3 every check passed, but the data are not like the accepted ones (--fail-on-drift).
    """
    from salon.stages import validate as stage

    if source is None and path is None:
        stage.run(*workspace(), accept=accept, fail_on_drift=fail_on_drift, metadata_only=metadata_only)
    elif metadata_only:
        raise typer.BadParameter("a source has pictures only: leave out --metadata-only")
    else:
        stage.run_on(
            *workspace(), source=source, path=path, accept=accept, fail_on_drift=fail_on_drift, report=report
        )


@app.command(rich_help_panel=STAGES)
def scorer() -> None:
    """Train the independent scorer that judges every method."""
    run("stages.scorer")


@app.command("train-clip", rich_help_panel=STAGES)
def train_clip() -> None:
    """Train the tokenizer and the contrastive text and image towers."""
    run("stages.train_clip")


@app.command(rich_help_panel=STAGES)
def codec(name: Annotated[str, typer.Argument(help="A codec of params.yaml, e.g. vqvae.")]) -> None:
    """Train one codec; fail when too little of held-out pictures survives it."""
    run("stages.codec", name)


@app.command(rich_help_panel=STAGES)
def train(method: MethodName) -> None:
    """Train one method within its budget; killed and started again, it goes on."""
    run("stages.train", method)


@app.command(rich_help_panel=STAGES)
def select(method: MethodName) -> None:
    """Choose how one method draws: search val for likeness that keeps variety and alignment."""
    run("stages.select", method)


@app.command(rich_help_panel=STAGES)
def sentinels() -> None:
    """Judge picture sources whose place is known; fail when a metric puts one where it cannot stand."""
    run("stages.sentinels")


@app.command(rich_help_panel=STAGES)
def evaluate(method: MethodName) -> None:
    """Judge one method with the independent scorer; measure what a picture costs."""
    run("stages.evaluate", method)


@app.command(rich_help_panel=STAGES)
def compare() -> None:
    """Set all methods side by side on one page."""
    run("stages.compare")


@app.command(rich_help_panel=STAGES)
def register(
    method: MethodName,
    promote: Annotated[
        bool, typer.Option("--promote", help="Make it champion without comparing; guardrails still hold.")
    ] = False,
) -> None:
    """Log one method to MLflow and make it champion if it draws better than the champion."""
    run("stages.register", method, promote=promote)


@app.command(rich_help_panel=COMMANDS)
def recommend(
    max_latency_ms: Annotated[float | None, typer.Option(help="Median of one picture alone.")] = None,
    min_images_per_second: Annotated[
        float | None, typer.Option(help="Drawn 16 at once, on the machine that measured it.")
    ] = None,
    max_train_minutes: Annotated[float | None, typer.Option(help="Shared stages included.")] = None,
    max_copy_rate: Annotated[float | None, typer.Option(help="Share of copies of training pictures.")] = None,
    min_alignment: Annotated[float | None, typer.Option(help="Share of prompts drawn all right.")] = None,
    max_memory_gb: Annotated[float | None, typer.Option(help="Peak of the training.")] = None,
    device: Annotated[str | None, typer.Option(help="Where it is to run: cpu, or cuda.")] = None,
    cores: Annotated[int | None, typer.Option(help="CPU cores that it is to run on.")] = None,
) -> None:
    """Say which method to take under these constraints, and why; fail when none qualifies."""
    from salon.commands import recommend as command
    from salon.report.recommend import Constraints

    command.run(
        *workspace(),
        Constraints(
            max_latency_ms=max_latency_ms,
            min_images_per_second=min_images_per_second,
            max_train_minutes=max_train_minutes,
            max_copy_rate=max_copy_rate,
            min_alignment=min_alignment,
            max_memory_gb=max_memory_gb,
            device=device,
            cores=cores,
        ),
    )


@app.command(rich_help_panel=COMMANDS)
def sync() -> None:
    """Register what is trained here and missing in the registry, e.g. after a restore from the DVC cache."""
    run("commands.sync")


@app.command(rich_help_panel=COMMANDS)
def rollback(method: MethodName) -> None:
    """Make the previous champion of a method serve again."""
    run("commands.rollback", method)


@app.command(rich_help_panel=COMMANDS)
def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine's need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8080,
    token: Annotated[str | None, typer.Option(help="What clients must send; better in SALON_TOKEN.")] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Serve this one only; may be given several times.")
    ] = None,
    worker: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Serve all champions on one port, with a gallery, and follow the registry."""
    from salon.commands import serve as command

    params, paths = workspace()
    if worker is not None:
        command.work(params, paths, descriptor=worker, methods=method or [])
    else:
        command.run(params, host=host, port=port, token=token, methods=method or [])


@app.command(rich_help_panel=COMMANDS)
def inspect(
    picture: Annotated[Path, typer.Argument(help="A PNG that salon drew.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    reproduce: Annotated[
        bool, typer.Option("--reproduce", help="Draw it again with the same weights, and compare.")
    ] = False,
) -> None:
    """Say which model drew a picture, from which words and seed; fail when it was changed since."""
    from salon.commands import inspect as command

    if not command.run(picture, as_json=as_json, workspace=workspace() if reproduce else None):
        raise typer.Exit(1)


@app.command(rich_help_panel=COMMANDS)
def search(
    query: Annotated[str, typer.Argument(help="What to look for, e.g. 'an owl on blue'.")],
    split: Annotated[str, typer.Option(help="Split to search.")] = "train",
    top: Annotated[int, typer.Option(help="Pictures to list, best first.")] = 12,
    out: Annotated[Path | None, typer.Option(help="PNG that shows them side by side.")] = None,
) -> None:
    """Find pictures by text with the contrastive towers."""
    from salon.commands import search as command

    command.run(workspace()[1], query, split=split, top=top, out=out)


@app.command(rich_help_panel=COMMANDS)
def compress(
    pictures: Annotated[list[Path], typer.Argument(help="Pictures to store.")],
    out: Annotated[Path, typer.Option(help="The token file.")],
    codec: Annotated[str, typer.Option(help="A trained codec.")] = "vqgan",
) -> None:
    """Store pictures as the codes of a learned codec."""
    from salon.commands import compress as command

    command.compress(workspace()[1], pictures, out=out, codec_name=codec)


@app.command(rich_help_panel=COMMANDS)
def decompress(
    file: Annotated[Path, typer.Argument(help="A token file.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")],
) -> None:
    """Draw the pictures of a token file."""
    from salon.commands import compress as command

    command.decompress(workspace()[1], file, out=out)


@app.command(rich_help_panel=COMMANDS)
def seeds(
    profile: Annotated[
        str | None, typer.Option(help="A file of profiles/, if not the settings of params.yaml.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each method; those that are there count.")] = 3,
    methods: Annotated[str | None, typer.Option(help="Some methods only, with commas between.")] = None,
    page: Annotated[Path | None, typer.Option(help="Write the tables to this Markdown file.")] = None,
) -> None:
    """Train all anew with several seeds, towers and codecs too, in a clone: what is luck, what the method?"""
    from salon.commands import seeds as command

    chosen = methods.split(",") if methods else None
    command.run(Paths(), profile=profile, count=seeds, methods=chosen, page=page)


@app.command(rich_help_panel=COMMANDS)
def profile(name: Annotated[str, typer.Argument(help="A file of profiles/, e.g. smoke.")]) -> None:
    """Lay a profile over params.yaml."""
    from salon.commands import profile as command

    command.run(Paths(), name)


@app.command(rich_help_panel=COMMANDS)
def smoke(
    keep: Annotated[Path | None, typer.Option(help="Folder that keeps the clone; deleted otherwise.")] = None,
) -> None:
    """Run every stage on a tiny world in a temporary clone; touches nothing here."""
    from salon.commands import smoke as command

    command.run(Paths(), keep=keep)

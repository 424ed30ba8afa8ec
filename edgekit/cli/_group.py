"""The lazy group of commands, the options that they share, and the way from an exception to an exit code."""

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

import edgekit
from edgekit.catalog import load, names
from edgekit.cli._output import Outcome, Settings, Terminal, discard_stdout
from edgekit.errors import DependencyError, EdgekitError, InternalError, OutputError, UsageError


class _Commands(click.Group):
    """Finds ``cli/<name>.py`` by the command's name, and imports it only then."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return names("cli")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        command: click.Command = load("cli", cmd_name).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in names("cli"):
            import difflib

            nearest = difflib.get_close_matches(name, names("cli"), n=1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


class _Command(click.Command):
    """A command whose libraries print nothing on standard output, and whose failures are edgekit's own."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _terminal(ctx).quiet_libraries():
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, EdgekitError):
            raise
        # SystemExit too: neither a library nor a user's own function ends edgekit in silence.
        except (Exception, SystemExit) as error:
            raise _translate(error) from error


def _terminal(context: click.Context) -> Terminal:
    terminal = context.find_object(Terminal)
    if terminal is None:
        raise RuntimeError("edgekit's commands are started by edgekit.cli.run")
    return terminal


def _shared_options() -> list[click.Option]:
    def remember(field: str, value: Any) -> Callable[[click.Context, click.Parameter, bool], None]:
        def callback(ctx: click.Context, _parameter: click.Parameter, given: bool) -> None:
            if given:
                setattr(_terminal(ctx).settings, field, value)

        return callback

    def flag(*declarations: str, field: str, value: Any, help_text: str) -> click.Option:
        return click.Option(
            declarations, is_flag=True, expose_value=False, help=help_text, callback=remember(field, value)
        )

    return [
        flag("--json", field="json", value=True, help_text="Print one JSON document on standard output."),
        flag(
            "-v",
            "--verbose",
            field="verbosity",
            value=1,
            help_text="Show what libraries print, and tracebacks.",
        ),
        flag(
            "-q",
            "--quiet",
            field="verbosity",
            value=-1,
            help_text="Print results only: no progress, no notes.",
        ),
        flag("--no-color", field="color", value=False, help_text="Plain text without colors."),
    ]


_HELP = {"help_option_names": ["-h", "--help"]}


def edgekit_command(**attributes: Any) -> Callable[[Callable[..., Outcome]], click.Command]:
    """Declare a command: click's ``@command``, with the shared options, and an ``Outcome`` to print."""

    def decorate(function: Callable[..., Outcome]) -> click.Command:
        command = click.command(cls=_Command, context_settings=_HELP, **attributes)(function)
        command.params.extend(_shared_options())
        return command

    return decorate


@click.group(
    cls=_Commands,
    params=_shared_options(),
    context_settings=_HELP,
    invoke_without_command=True,
    epilog="Try `edgekit demo` for the whole story on a small real model.",
)
@click.version_option(edgekit.__version__, prog_name="edgekit")
@click.pass_context
def main(context: click.Context) -> None:
    """Take a trained model to a device, and prove that it is still good there."""
    if context.invoked_subcommand is None:
        if _terminal(context).settings.json:
            raise click.UsageError("No command was given.", context)
        click.echo(context.get_help())


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; nothing but the results reaches standard output."""
    command_name = next((word for word in arguments if not word.startswith("-")), "")
    # Known before parsing, so that errors found while parsing are JSON documents too.
    terminal = Terminal(Settings(json="--json" in arguments), command_name)
    try:
        with main.make_context("edgekit", list(arguments), obj=terminal) as context:
            outcome = main.invoke(context)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except BrokenPipeError:  # only click's help is printed outside of Terminal
        discard_stdout()
        return 0
    except click.ClickException as error:
        return terminal.fail(_usage_error(error))
    except (KeyboardInterrupt, click.Abort):
        return terminal.interrupted()
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback reaches a user
        translated = _translate(error)
        if translated is not error:
            translated.__cause__ = error
        return terminal.fail(translated)
    return terminal.succeed(outcome) if isinstance(outcome, Outcome) else 0


def complete() -> int:
    """Answer a shell that asks for completions: ``eval "$(_EDGEKIT_COMPLETE=bash_source edgekit)"``."""
    from click.shell_completion import shell_complete

    return shell_complete(main, {}, "edgekit", "_EDGEKIT_COMPLETE", os.environ["_EDGEKIT_COMPLETE"])


def _usage_error(error: click.ClickException) -> UsageError:
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"See `{context.command_path} --help`." if context else "See `edgekit --help`."
    return UsageError("EK902", error.format_message(), hint)


def _translate(error: BaseException) -> EdgekitError:
    """The error of edgekit's own tree that stands for any other."""
    if isinstance(error, EdgekitError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return _translate(error.exceptions[0])
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return OutputError(
            "EK604", "The disk is full.", "Free some space, or set TMPDIR to a folder on another disk."
        )
    if isinstance(error, MemoryError):
        return InternalError(
            "EK911", "There is not enough memory.", "Use fewer samples, or a machine with more memory."
        )
    if isinstance(error, ModuleNotFoundError) and not (error.name or "edgekit").startswith("edgekit"):
        return DependencyError(
            "EK609", f"The package {error.name} is not installed.", "See `edgekit doctor`."
        )
    return _defect(error)


def _defect(error: BaseException) -> InternalError:
    import traceback

    where = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(where[-1].filename).name}:{where[-1].lineno}" if where else ""
    return InternalError(
        "EK910",
        f"edgekit failed: {type(error).__name__}{place}: {error}".splitlines()[0],
        "This is a defect in edgekit. Run the command again with -v and report what it prints.",
    )

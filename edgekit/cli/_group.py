"""The lazy group of commands, the options that all of them share, and the way from an exception to an exit code."""

import errno
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import edgekit
from edgekit.catalog import load, names
from edgekit.cli._output import Outcome, Terminal
from edgekit.errors import EdgekitError, InternalError, OutputError, UsageError


@dataclass
class Settings:
    """The options that stand before or after the command's name."""

    json: bool = False
    color: bool = True
    verbosity: int = 0  # -1 quiet, 0 normal, 1 verbose


class _Commands(click.Group):
    """Finds ``cli/<name>.py`` by the command's name, and imports it only then."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return names("cli")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in names("cli"):
            return None
        command = load("cli", cmd_name).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and name not in names("cli"):
            import difflib

            nearest = difflib.get_close_matches(name, names("cli"), n=1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


def _shared_options() -> list[click.Option]:
    def remember(field: str, value: Any) -> Callable[[click.Context, click.Parameter, bool], None]:
        def callback(ctx: click.Context, _parameter: click.Parameter, given: bool) -> None:
            if given:
                setattr(ctx.ensure_object(Settings), field, value)

        return callback

    def flag(*declarations: str, field: str, value: Any, help_text: str) -> click.Option:
        return click.Option(
            declarations, is_flag=True, expose_value=False, help=help_text, callback=remember(field, value)
        )

    return [
        flag("--json", field="json", value=True, help_text="Print one JSON document on standard output."),
        flag("-v", "--verbose", field="verbosity", value=1, help_text="Show what the libraries print, and tracebacks."),
        flag("-q", "--quiet", field="verbosity", value=-1, help_text="Print results only: no progress, no notes."),
        flag("--no-color", field="color", value=False, help_text="Plain text without colors."),
    ]


def edgekit_command(**attributes: Any) -> Callable[[Callable[..., Outcome]], click.Command]:
    """Declare a command: click's ``@command``, with the shared options, and an ``Outcome`` to print."""

    def decorate(function: Callable[..., Outcome]) -> click.Command:
        command = click.command(context_settings={"help_option_names": ["-h", "--help"]}, **attributes)(function)
        command.params.extend(_shared_options())
        return command

    return decorate


@click.group(
    cls=_Commands,
    params=_shared_options(),
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Try `edgekit demo` for the whole story on a small real model.",
)
@click.version_option(edgekit.__version__, prog_name="edgekit")
def main() -> None:
    """Take a trained model to a device, and prove that it is still good there."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; nothing but the results reaches standard output."""
    settings = Settings(json="--json" in arguments)
    command_name = next((word for word in arguments if not word.startswith("-")), "")
    terminal = Terminal(settings, command_name)
    try:
        with terminal.captured():
            outcome = main.main(args=list(arguments), prog_name="edgekit", standalone_mode=False, obj=settings)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        return terminal.fail(_usage_error(error))
    except (KeyboardInterrupt, click.Abort):
        return terminal.interrupted()
    except EdgekitError as error:
        return terminal.fail(error)
    except BaseExceptionGroup as group:
        return terminal.fail(_translate(group.exceptions[0]))
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback reaches a user
        return terminal.fail(_translate(error))
    if isinstance(outcome, Outcome):
        return terminal.succeed(outcome)
    return outcome if isinstance(outcome, int) else 0


def _usage_error(error: click.ClickException) -> UsageError:
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"See `{context.command_path} --help`." if context else "See `edgekit --help`."
    return UsageError("EK902", error.format_message(), hint)


def _translate(error: BaseException) -> EdgekitError:
    if isinstance(error, EdgekitError):
        return error
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return OutputError("EK604", "The disk is full.", "Free some space, or set TMPDIR to a folder on another disk.")
    if isinstance(error, MemoryError):
        return InternalError("EK911", "There is not enough memory.", "Use fewer samples, or a machine with more memory.")
    where = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(where[-1].filename).name}:{where[-1].lineno}" if where else ""
    return InternalError(
        "EK910",
        f"edgekit failed: {type(error).__name__}{place}: {error}".splitlines()[0],
        "This is a defect in edgekit. Run the command again with -v and report what it prints.",
        detail="".join(traceback.format_exception(error)),
    )


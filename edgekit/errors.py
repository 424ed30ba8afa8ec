"""Everything that can go wrong, as one tree.

EdgekitError
├── UsageError          exit 2    an option, a recipe, a target or a configuration value is wrong
│   └── OutputError     exit 2    the output exists, or its folder is missing, read-only or full
├── DependencyError     exit 3    a package or a toolchain is not installed
├── TargetError         exit 4    the model does not fit the target
├── DeviceError         exit 5    a device is unreachable, or a command on it failed
├── InconclusiveError   exit 6    too few samples or too much noise for an answer
├── InputError          exit 7    what was given cannot be used
│   ├── ModelError      exit 7    a model is unreadable, corrupt or not supported
│   └── DataError       exit 7    data is unreadable or does not fit the model
└── InternalError       exit 10   a defect in edgekit

Each carries a code that ``edgekit explain`` knows, one sentence, and a hint that says what to do.
"""

from typing import ClassVar


class EdgekitError(Exception):
    """The root of the tree.

    Args:
        code: A code of the catalogue in ``findings.toml``, ``"EK101"``.
        message: One sentence that says what is wrong, naming the file or option.
        hint: What the user can do about it; empty where there is nothing to add.
        detail: The raw text of the library underneath, shown only with ``-v``.
    """

    exit_code: ClassVar[int] = 10

    def __init__(self, code: str, message: str, hint: str = "", *, detail: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.detail = detail

    def __str__(self) -> str:
        # Whoever knows more about what was going on may have put it into the message.
        return self.message

    def describe(self) -> dict[str, str]:
        """The error as it stands in JSON documents."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class UsageError(EdgekitError):
    """An option, a recipe, a target or a configuration value is wrong."""

    exit_code = 2


class OutputError(UsageError):
    """The output exists, or its folder is missing, read-only or full."""


class DependencyError(EdgekitError):
    """A package or a toolchain is not installed."""

    exit_code = 3


class TargetError(EdgekitError):
    """The model does not fit the target, or too little of it is accelerated."""

    exit_code = 4


class DeviceError(EdgekitError):
    """A device is unreachable, or a command on it failed."""

    exit_code = 5


class InconclusiveError(EdgekitError):
    """Too few samples or too much noise for an answer."""

    exit_code = 6


class InputError(EdgekitError):
    """What was given cannot be used."""

    exit_code = 7


class ModelError(InputError):
    """A model is unreadable, corrupt or not supported."""


class DataError(InputError):
    """Data is unreadable or does not fit the model."""


class InternalError(EdgekitError):
    """A defect in edgekit itself."""

"""Every error nfbench raises on purpose. Catch `NFBenchError` to catch them all."""

from typing import ClassVar


class NFBenchError(Exception):
    """Base of all deliberate errors; the message says what was expected, what came, what to do."""

    exit_code: ClassVar[int] = 1


class UsageError(NFBenchError):
    """A command, file or hyperparameter that cannot be right."""

    exit_code = 2


class UnknownPlugin(UsageError):
    """A name that nobody registered."""


class BrokenPlugin(NFBenchError):
    """A plugin that was asked for by name and can't be loaded, or that two packages claim."""

    exit_code = 3


class DataMissing(NFBenchError):
    """A dataset's files are absent or damaged."""

    exit_code = 4


class CorruptArtifact(NFBenchError):
    """A stored artifact is not what was written."""

    exit_code = 5


class VerificationMismatch(NFBenchError):
    """Results are not what their images, vectors or recipes amount to."""

    exit_code = 5


class CheckFailed(NFBenchError):
    """A rendered file is not what its results render to."""

    exit_code = 5


class ContractViolation(NFBenchError):
    """A plugin returned something its interface forbids."""


class UnknownToAttacker(NFBenchError):
    """An attack asked for more than its threat model grants."""

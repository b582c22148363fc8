"""The errors a user can fix: what was expected, what came, what to do."""


class LorateError(ValueError):
    """A mistake in the input, the model or the options; the command line prints it and exits with 2."""


class StorageError(LorateError):
    """A disk is full, read-only or broken; what was there is kept. The command line prints it and exits with 1."""


class OtherProcessError(LorateError):
    """Another process of the run failed and says why; the command line exits with 3."""


class MissingExtraError(ImportError):
    """An optional dependency is not installed; the message holds the line that installs it."""

"""The exceptions of aaecore. Bad arguments raise the built-in ``ValueError`` and ``TypeError``."""


class CaptureError(RuntimeError):
    """A step that is being recorded did something that a replay could not repeat, or a plan was given other shapes."""


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged, of another model, of a newer format, or could not be written."""


class DataError(RuntimeError):
    """A data file is missing, damaged or of the wrong format."""


class DeviceError(RuntimeError):
    """A device or an instruction set was asked for that this machine or this build does not have."""

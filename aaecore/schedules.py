"""Learning-rate schedules: pure functions of the step."""

from .optim.schedules import SCHEDULES, Constant, Cosine, Schedule, StepWise, config, from_config

__all__ = ["SCHEDULES", "Constant", "Cosine", "Schedule", "StepWise", "config", "from_config"]

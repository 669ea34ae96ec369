"""How Hypothesis runs here: a slow machine is no failure."""

from hypothesis import HealthCheck, settings

settings.register_profile("setpoint", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("setpoint")

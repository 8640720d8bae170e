"""Nothing here hangs on how fast the machine is: hypothesis does not ask for the time either."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "any machine",
    settings(),  # what was loaded before: tests/mutation has its own
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("any machine")

"""Bounds on a configuration of Keras; tests/scan/vectors has what is found in one."""

from __future__ import annotations

import pytest

from sdtool.checkpoint.keras_config import config_anomalies


@pytest.mark.parametrize(
    ("config", "reason"),
    [(b'"' + b"a" * (8 << 20) + b'"', "too large"), (b"[" * 100_000, "nested too deeply")],
)
def test_a_configuration_is_bounded(config: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        list(config_anomalies(config, "config.json"))

"""What a daemon takes at most, as its settings have it unless told otherwise."""

from setpoint_contracts.system import Limits

LIMITS = Limits(
    max_command_bytes=262_144,
    max_command_lifetime_s=86_400,
    max_clock_skew_s=60,
    max_config_bytes=131_072,
    max_config_keys=1000,
    max_json_levels=32,
    max_schema_bytes=65_536,
    max_secrets=256,
    max_packet_bytes=None,
    tombstone_keep_days=30,
    require_expected_version=False,
    rate_limit_per_s=500,
    rate_limit_burst=1000,
)

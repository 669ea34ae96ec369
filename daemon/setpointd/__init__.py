"""Setpoint's daemon: signed commands in, durable versions and retained updates out."""

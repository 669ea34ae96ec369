"""Setpoint's wire in Python: topics, models, error codes, signing and verifying."""

"""The daemon on the broker: its session, its position among other daemons, and what it announces."""

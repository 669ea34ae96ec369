"""For the tests of a service: a real broker and daemon, or a client whose configs are in memory.

``setpoint.testing.plugin`` has the pytest fixture ``setpoint_server``; ``running_server`` is the same for other
frameworks.
"""

from setpoint.testing.server import Server, running_server

__all__ = ["Server", "running_server"]

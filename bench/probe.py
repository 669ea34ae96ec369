"""A probe that asks ``/livez`` and ``/readyz`` again and again, as a process of its own: ``python probe.py PORT``.

It goes on until its standard input is closed, and then prints how long each answer took, in milliseconds, as JSON. A
port on which nobody listens yet gives no answer; each question is a connection of its own.
"""

import contextlib
import http.client
import json
import select
import sys
import time

_PATHS = ("/livez", "/readyz")
_PAUSE_S = 0.01


def main(port: int) -> None:
    """Ask and print."""
    found: dict[str, list[float]] = {path: [] for path in _PATHS}
    while not select.select([sys.stdin], [], [], _PAUSE_S)[0]:
        for path, answers in found.items():
            started = time.perf_counter()
            with (
                contextlib.suppress(ConnectionError),
                contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection,
            ):
                connection.request("GET", path)
                connection.getresponse().read()
                answers.append((time.perf_counter() - started) * 1000)
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]))

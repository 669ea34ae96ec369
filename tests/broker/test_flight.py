"""Publishes on their way, without a network: how long one has been waiting for its PUBACK."""

from setpointd.broker.flight import Flight, Publish


def add(flight: Flight, topic: str, *, urgent: bool = False) -> int:
    """Hand a publish over; its packet id."""
    packet_id = flight.free_id()
    flight.add(packet_id, Publish(topic, topic.encode()), len(topic), urgent=urgent)
    return packet_id


def tick(flight: Flight, count: int = 1) -> None:
    """Let time pass, as the connection that keeps it counts it."""
    flight.ticks += count


async def test_the_age_is_that_of_what_waits_longest_for_its_puback() -> None:
    """Counted from when it was sent; what is confirmed does not count, and with nothing on its way there is none."""
    flight = Flight(lambda _packet: None)
    flight.receive_max = 10
    assert flight.age == 0
    tick(flight, 100)
    first, second = add(flight, "first"), add(flight, "second")
    tick(flight, 3)
    add(flight, "third")
    assert flight.age == 3
    flight.land(second)
    assert flight.age == 3
    flight.land(first)
    assert flight.age == 0
    tick(flight)
    assert flight.age == 1


async def test_what_was_not_sent_yet_has_no_age() -> None:
    """While an urgent one has the only place, what it has overtaken is no sign that the broker confirms nothing."""
    sent: list[bytes] = []
    flight = Flight(sent.append)
    flight.receive_max = 1
    first = add(flight, "first")
    add(flight, "overtaken")
    urgent = add(flight, "urgent", urgent=True)
    tick(flight, 100)
    flight.land(first)
    flight.go_on()
    assert sent == [b"first", b"urgent"]
    assert flight.age == 0
    tick(flight, 2)
    assert flight.age == 2
    flight.land(urgent)
    flight.go_on()
    assert sent[2:] == [b"overtaken"]
    assert flight.age == 0

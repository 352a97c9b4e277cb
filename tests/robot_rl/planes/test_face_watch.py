"""What a control process knows of its face: whether it lives, and what it asks for."""

import pytest

from hardware.realtime.seqlock import SlotWriter
from robot_rl.planes import records
from robot_rl.planes.face_watch import FaceWatch
from robot_rl.planes.slots_client import SlotsClient


@pytest.fixture
def face(tmp_path):
    with SlotWriter(tmp_path, "face", records.FACE) as slot:
        yield slot


@pytest.fixture
def client(tmp_path):
    made = SlotsClient(tmp_path, {"request": records.REQUEST})
    yield made
    made.close()


@pytest.fixture
def watch(tmp_path, client):
    made = FaceWatch(tmp_path, 0.5)
    yield made
    made.close()


def beat(face, now):
    face.write(records.new(records.FACE), now)


def test_a_face_lives_as_long_as_its_last_sign_is_young(face, watch):
    assert watch.problem(10.0) == "the face of the control process never gave a sign of life (limit 500 ms)"
    beat(face, 10.0)
    assert watch.problem(10.0) == watch.problem(10.5) == ""
    assert "gave no sign of life for 600 ms (limit 500 ms)" in watch.problem(10.6)
    beat(face, 10.7)
    assert watch.problem(10.8) == ""


def test_a_sign_from_the_future_counts_from_now(face, watch):
    beat(face, 99.0)
    assert watch.problem(10.0) == "" and watch.problem(10.6)


def test_it_may_need_no_sign(tmp_path):
    watch = FaceWatch(tmp_path, 0.0)
    assert watch.problem(10.0) == ""
    watch.close()


def test_a_request_is_taken_once_with_its_number_and_name(client, watch):
    assert watch.take() is None
    for name in ("arm", "disarm", "recover"):
        number = client.request(name)
        assert watch.take() == (number, name, False)
        assert watch.take() is None


def test_an_emergency_stop_is_seen_also_behind_a_later_request(client, watch):
    first = client.request("estop")
    assert watch.take() == (first, "estop", True)
    client.request("estop")
    last = client.request("arm")
    assert watch.take() == (last, "arm", True)
    last = client.request("arm")
    assert watch.take() == (last, "arm", False)


def test_what_was_asked_of_an_earlier_process_is_not_asked_of_this_one(tmp_path, client):
    client.request("estop")
    client.request("arm")
    watch = FaceWatch(tmp_path, 0.5)
    assert watch.take() is None
    number = client.request("disarm")
    assert watch.take() == (number, "disarm", False)  # its emergency stop was the earlier one's too
    watch.close()


def test_a_request_that_does_not_exist_has_no_name(tmp_path, watch):
    with SlotWriter(tmp_path, "request", records.REQUEST) as slot:
        record = records.new(records.REQUEST)
        record["id"], record["kind"] = 3, 200
        slot.write(record)
    assert watch.take() == (3, "", False)

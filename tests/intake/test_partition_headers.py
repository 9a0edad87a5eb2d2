"""Job-Partition and Job-Priority: where they say something, and where they are refused."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support.web import Web
from tidegate.errors import NoPriorities
from tidegate.intake.submission import PartitionPlace, Submission, place_in
from tidegate.operations.operation import Body
from tidegate.operations.sharing import PartitionLimits, Sharing

ASKED = Submission(operation="call", body=Body(content=b"1"), client_id="c", partition="a", priority=1)
STRICT = PartitionLimits(is_strict=True)


def test_where_all_wait_in_one_line_name_and_priority_say_nothing(web: Web) -> None:
    assert place_in(None, ASKED) is None
    headers = {"Job-Partition": "a", "Job-Priority": "0"}
    assert web.submit("echo", headers=headers).status_code == 202


def test_where_each_client_is_a_partition_a_name_says_nothing() -> None:
    assert place_in(Sharing(by="client"), ASKED) == PartitionPlace(
        partition="c/", priority=1, behind=timedelta(seconds=30), keeps_rank=False
    )


def test_by_name_a_client_has_partitions_of_its_own() -> None:
    place = place_in(Sharing(by="header"), ASKED)
    assert place
    assert place.partition == "c/a"
    unnamed = place_in(Sharing(by="header"), replace(ASKED, partition=None))
    assert unnamed
    assert unnamed.partition == "c/"


@pytest.mark.parametrize("sharing", [Sharing(each=STRICT), Sharing(by="header", named={"a": STRICT})])
def test_a_partition_that_keeps_the_order_of_submit_takes_no_priority(sharing: Sharing) -> None:
    with pytest.raises(NoPriorities):
        place_in(sharing, ASKED)
    place = place_in(sharing, replace(ASKED, priority=None))
    assert place
    assert place.keeps_rank

"""What a transaction that stays open (a backup by pg_dump, a forgotten session) costs the gate of PostgreSQL: dead rows
of the queue's indexes and of the lane's own row can't be removed, and each look walks over all of them."""

import time

import psycopg
from sqlalchemy import make_url, text

from benchmarks.backlog.deep_lane import DeepLane
from benchmarks.backlog.rows import LANE, fresh
from benchmarks.lanes.figures import Line

_ROUNDS = 9
_ALL_OF_A_JOB = f"""
CREATE PROCEDURE live_and_die(first bigint, last bigint) LANGUAGE plpgsql AS $$
DECLARE i bigint; j uuid; BEGIN
FOR i IN first..last LOOP
  j := CAST(lpad(to_hex(i + 1000000000), 32, '0') AS uuid);
  INSERT INTO jobs (id, client_id, operation, downstream, queue, created_at, run_at, deadline, max_attempts)
    VALUES (j, 'local', 'call', '{LANE}', 'io', i, i, i + 9000000000000000, 5);
  UPDATE jobs SET fence = 1, slot_at = i WHERE id = j;
  UPDATE downstreams SET released = released + 1 WHERE name = '{LANE}';
  INSERT INTO attempts (job_id, fence, downstream, queue, released_at, slot_at, place_until)
    VALUES (j, 1, '{LANE}', 'io', i, i, i);
  UPDATE jobs SET state = 'running', lease_until = i, version = 2 WHERE id = j;
  UPDATE attempts SET claimed_at = i, worker = 'gone', place_until = i + 1 WHERE job_id = j;
  UPDATE jobs SET state = 'succeeded', lease_until = NULL, slot_at = NULL, percent = 100, finished_at = i WHERE id = j;
  UPDATE attempts SET ended_at = i, outcome = 'succeeded' WHERE job_id = j;
  COMMIT;
END LOOP; END $$"""  # noqa: S608 - nothing from outside


def snapshot(title: str, *, jobs: int) -> list[Line]:
    """A release before the transaction began, and after so many jobs have lived and ended beside it."""
    with fresh("postgresql") as url:
        lane = DeepLane(url, 100)
        lane.database.execute(text(_ALL_OF_A_JOB))
        few, few_buffers = _release(lane)
        parts = make_url(url)
        with psycopg.connect(
            host=parts.host, port=parts.port, user=parts.username, dbname=parts.database, autocommit=True
        ) as backup:
            backup.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            backup.execute("SELECT count(*) FROM clients")
            lane.database.execute(text(f"CALL live_and_die(1, {jobs})"))
            many, many_buffers = _release(lane)
            backup.execute("ROLLBACK")
        lane.database.close()
    beside = f"before and after {jobs:,} jobs beside one open transaction"
    return [
        Line(what=f"release {beside}", database=title, unit="ms", few=few, many=many),
        Line(what=f"buffers of a release {beside}", database=title, unit="", few=[few_buffers], many=[many_buffers]),
    ]


def _release(lane: DeepLane) -> tuple[list[float], float]:
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        lane.release()
        times.append(1e3 * (time.perf_counter() - began))
        lane.finish()
    with lane.buffers() as touched:
        lane.release()
    lane.finish()
    return times, sum(touched)

"""Attacks with what is asked: huge and faulty JSON, other sites in a browser, and the jobs of somebody else."""

import re
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.support.attack import Target, under_attack

OPEN = {"/health/live", "/health/ready"}
"""Described paths that tell nobody's secrets."""


def routes(target: Target) -> list[tuple[str, str, bool]]:
    """Method, path and whether it takes a body, of everything that the gateway says it has."""
    with target.client(timeout=60) as client:
        document = client.get("/openapi.json").json()
    return [
        (method.upper(), path, "requestBody" in route)
        for path, item in document["paths"].items()
        for method, route in item.items()
        if method in {"get", "post", "put", "patch", "delete"}
    ]


def filled(path: str, job_id: str, operation: str) -> str:
    """The path about this job, or with something in each place."""
    path = re.sub(r"\{(job|secret)_id\}", job_id, path)
    return re.sub(r"\{\w+\}", operation, path)


@pytest.mark.parametrize("megabytes", [1, 8])
def test_huge_and_faulty_json_at_every_route_that_takes_a_body(target: Target, megabytes: int) -> None:
    """Members that nobody knows, names without end, and depths; 1.2 GB and 33 s each at the first try."""
    size = megabytes * 1_000_000
    faulty = [
        b"{" + b",".join(b'"k%07d":1' % each for each in range(size // 13)) + b"}",
        b'{"' + b"x" * (size // 2) + b'":{' + b",".join(b'"k%07d":1' % each for each in range(size // 26)) + b"}}",
        b"[" * size,
        b"[" + b",".join([b"{}"] * (size // 3)) + b"]",
    ]
    job_id = "0199c5a0-0000-7000-8000-000000000000"
    with_body = [(method, filled(path, job_id, target.operation)) for method, path, takes in routes(target) if takes]
    assert len(with_body) > 5

    def send(case: tuple[str, str, bytes]) -> str:
        method, path, content = case
        with target.client(timeout=120) as client:
            try:
                answer = client.request(method, path, content=content, headers={"Content-Type": "application/json"})
            except httpx2.TransportError as error:
                return f"{method} {path}: {error!r}" if not isinstance(error, httpx2.WriteError) else ""
        if len(answer.content) > 200_000:
            return f"{method} {path}: an answer of {len(answer.content)} bytes"
        return f"{method} {path}: {answer.status_code}" if answer.status_code >= 500 else ""

    cases = [(method, path, content) for content in faulty for method, path in with_body]
    with under_attack(target), ThreadPoolExecutor(2 * target.size) as pool:
        assert [fault for fault in pool.map(send, cases) if fault] == []


def test_names_that_point_here_and_other_sites_open_nothing(target: Target) -> None:
    """Where keys are on they are what is asked for; without them every route is closed to both."""
    job_id = "0199c5a0-0000-7000-8000-000000000000"
    rebound = {"Host": "evil.example", "Origin": "http://evil.example"}
    from_elsewhere = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"}
    with under_attack(target), target.client(key="") as browser:
        for method, path, _ in routes(target):
            where = filled(path, job_id, target.operation)
            expected = {401} if target.key else {421}
            if path not in OPEN:
                answer = browser.request(method, where, headers=rebound)
                assert answer.status_code in expected, f"{method} {path} of another name: {answer.status_code}"
            if method != "GET":
                answer = browser.request(method, where, headers=from_elsewhere, content=b"{}")
                expected = {401} if target.key else {403}
                assert answer.status_code in expected, f"{method} {path} from another site: {answer.status_code}"
        for path in ("/metrics", "/live"):
            assert browser.get(path, headers=rebound).status_code in {401, 303, 421}


def test_nobody_reads_or_moves_the_jobs_of_another(target: Target) -> None:
    """Every described route that names a job, so that one that is added tomorrow is tried, too."""
    if not target.key or target.key == target.attacker_key:
        pytest.skip("it takes keys of two clients")
    with target.client(key=target.key) as owner, target.client() as attacker, under_attack(target):
        job_id = owner.post(target.submit_path, json={}).json()["id"]
        tried = 0
        for method, path, has_body in routes(target):
            if "{job_id}" not in path:
                continue
            where = filled(path, job_id, target.operation)
            more = {"Prefer": "wait=5", "Accept": "text/event-stream, application/json"}
            content = b"{}" if has_body else None
            answer = attacker.request(method, where, content=content, headers=more)
            assert answer.status_code == 404, f"{method} {path}: {answer.status_code}"
            unknown = attacker.request(method, where.replace(job_id, job_id[::-1]), content=content, headers=more)
            assert unknown.status_code == 404
            tried += 1
        assert tried >= 7
        listed = attacker.get("/v1/jobs", params={"limit": "200"}).json()["jobs"]
        assert job_id not in {job["id"] for job in listed}
        assert owner.get(f"/v1/jobs/{job_id}").status_code in {200, 202}

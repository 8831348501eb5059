"""What schemathesis is told of an engine: which names lead to something, what never ends, and what counts as a failure."""

import json
import os
import zlib

import requests
import schemathesis

# Names of what the test made, by the names of the parameters in paths.
SUBJECTS = json.loads(os.environ["SUBJECTS"])
# What the engine says of what it does not have, or what is Swarm's.
ABSENT = ("not implemented by this engine", "not available yet", "This node is not")
# As Docker says it where a registry cannot be reached, with status 500: there is no network where this runs.
UNREACHED = ('Get "http', 'Post "http')


def number(case):
    """The same in every run for the same case."""
    return zlib.crc32(repr((case.operation.label, case.path_parameters, case.query, case.body)).encode())


def subject(path, name):
    """What a path's parameter may stand for, by the path's first part."""
    return SUBJECTS.get(path.split("/")[1] + "." + name)


@schemathesis.hook
def before_call(ctx, case, **kwargs):
    path, method = case.operation.path, case.operation.method.upper()
    chosen = number(case)
    # What is taken away is found by nobody after that.
    if case.path_parameters and method != "DELETE" and not path.endswith("/rename") and chosen % 4:
        for name in list(case.path_parameters):
            names = subject(path, name)
            if names:
                case.path_parameters[name] = names[chosen % len(names)]
    query = dict(case.query or {})
    if path == "/events":
        query["until"] = "1"
    if path.endswith("/logs"):
        query["follow"] = "0"
    if path.endswith("/stats"):
        query["stream"] = "0"
    if path.endswith("/wait"):
        # What never ran does not run; what runs would be waited for.
        case.path_parameters["id"] = "created" if chosen % 2 else "nobody"
        query["condition"] = "not-running" if chosen % 4 < 2 else "nonsense"
    if path.endswith(("/attach", "/attach/ws")):
        query["stream"] = "0"
    if path.endswith(("/stop", "/restart")) and str(query.get("t", "")).lstrip("-").isdigit():
        query["t"] = "0"
    if "fromImage" in query and chosen % 2:
        query["fromImage"] = "localhost:1/nobody"
    if path in ("/containers/create", "/commit") and isinstance(case.body, dict) and chosen % 4:
        case.body["Image"] = "busybox"
        query["container"] = SUBJECTS["containers.id"][0]
        # Without a name there is no second one of it.
        query.pop("name", None)
    case.query = query


@schemathesis.serializer("application/x-tar")
def archive(ctx, value):
    """No archive: what is sent where one belongs."""
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.check
def no_fault_of_the_engine(ctx, response, case):
    if response.status_code < 400:
        return
    if case.method == "HEAD":
        # Its message is in no body; the same question with one tells.
        told = requests.get(response.request.url, timeout=20).text if response.status_code >= 500 else ""
        assert response.status_code < 500, f"{response.status_code}: {told}"
        return
    message = response.json()["message"]
    absent = response.status_code in (501, 503) and any(words in message for words in ABSENT)
    unreached = response.status_code == 500 and message.startswith(UNREACHED)
    assert absent or unreached or response.status_code < 500, f"{response.status_code}: {message}"

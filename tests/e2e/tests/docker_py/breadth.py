"""Docker's own library for Python against the engine: every call it shares, each with what must come back."""

import socket
import sys
import threading
import time

import docker
from docker.errors import ContainerError, ImageNotFound, NotFound

from checks import check, equal, finish, refuses

client = docker.from_env(timeout=60)
QUIET = {"network_mode": "none"}


def created(command, **more):
    return client.containers.create("busybox", command, **QUIET, **more)


def started(command, **more):
    return client.containers.run("busybox", command, detach=True, **QUIET, **more)


@check
def system():
    equal(client.ping(), True)
    equal(client.version()["ApiVersion"], client.api._version)
    equal(client.info()["OSType"], "linux")
    equal(sorted(client.df()), ["BuildCacheUsage", "ContainerUsage", "ImageUsage", "VolumeUsage"])


@check
def run():
    equal(client.containers.run("busybox", ["echo", "hi"], remove=True, **QUIET), b"hi\n")
    try:
        client.containers.run("busybox", ["sh", "-c", "echo oops >&2; exit 3"], remove=True, **QUIET)
        raise AssertionError("was taken for a success")
    except ContainerError as error:
        equal((error.exit_status, error.stderr), (3, b"oops\n"))
    refuses(400, "executable file not found", client.containers.run, "busybox", ["nope"], remove=True, **QUIET)


@check
def logs():
    container = started(["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done"])
    equal(b"".join(container.logs(stream=True, follow=True)), b"1\n2\n3\n")
    equal(container.wait(), {"StatusCode": 0})
    equal(container.logs(tail=1), b"3\n")
    equal(container.logs(stdout=False, stderr=True), b"")
    container.remove(v=True)


@check
def attach():
    container = created(["cat"], stdin_open=True)
    stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    stream._sock.sendall(b"hello\n")
    received = b""
    while len(received) < 14:
        received += stream._sock.recv(100)
    equal(received, b"\x01\0\0\0\0\0\0\x06hello\n")
    stream.close()
    container.remove(force=True, v=True)
    container = created(["sh", "-c", "echo out; echo err >&2"])
    parts = container.attach(stream=True, stdout=True, stderr=True, demux=True)
    container.start()
    out, err = zip(*parts)
    equal(b"".join(part or b"" for part in out), b"out\n")
    equal(b"".join(part or b"" for part in err), b"err\n")
    container.remove(force=True, v=True)


box = started(["sleep", "1000"], name="py", labels={"k": "v"})


@check
def execs():
    # Many times: output that comes with the answer's head would be lost now and then.
    for _ in range(20):
        result = box.exec_run(["sh", "-c", "echo a; echo b >&2; exit 4"], demux=True)
        equal((result.exit_code, result.output), (4, (b"a\n", b"b\n")))
    equal(box.exec_run("tty", tty=True).output, b"/dev/pts/0\r\n")
    equal(b"".join(box.exec_run(["sh", "-c", "echo a; sleep 0.1; echo b"], stream=True).output), b"a\nb\n")
    stream = box.exec_run("cat", stdin=True, socket=True).output._sock
    stream.sendall(b"zz")
    stream.shutdown(socket.SHUT_WR)
    received = b""
    while part := stream.recv(100):
        received += part
    equal(received, b"\x01\0\0\0\0\0\0\x02zz")
    equal(box.exec_run("true", user="1000:1000", workdir="/tmp", environment={"A": "B"}).exit_code, 0)


@check
def states():
    equal([found.name for found in client.containers.list(filters={"label": "k=v"})], ["py"])
    equal(box.top()["Processes"][0][-1], "sleep 1000")
    box.pause()
    box.reload()
    equal(box.status, "paused")
    box.unpause()
    box.rename("python")
    box.reload()
    equal((box.name, box.status, box.attrs["HostConfig"]["NetworkMode"]), ("python", "running", "none"))
    equal(box.stats(stream=False)["name"], "/python")
    equal(box.get_archive("/bin/busybox")[1]["name"], "busybox")
    made = box.commit("made", "1", message="by a test", changes=["ENV A=b"])
    equal((made.tags, "A=b" in made.attrs["Config"]["Env"]), (["made:1"], True))
    client.images.remove("made:1")
    box.restart(timeout=0)
    box.stop(timeout=0)
    equal(box.wait(), {"StatusCode": 137})
    results = []
    waiting = threading.Thread(target=lambda: results.append(box.wait(condition="removed")))
    waiting.start()
    time.sleep(0.3)
    box.remove(v=True)
    waiting.join(30)
    equal(results, [{"StatusCode": 137}])
    try:
        client.containers.get("python")
        raise AssertionError("is still there")
    except NotFound:
        pass


@check
def images():
    image = client.images.get("busybox")
    equal("busybox:latest" in image.tags, True)
    equal(image.tag("foo/bar", "x"), True)
    equal("foo/bar:x" in [tag for found in client.images.list() for tag in found.tags], True)
    equal(image.history()[0]["Id"], image.id)
    client.images.remove("foo/bar:x")
    try:
        client.images.get("foo/bar:x")
        raise AssertionError("is still there")
    except ImageNotFound:
        pass
    refuses(400, "invalid reference format", client.images.pull, "UPPER", tag="1")


@check
def volumes_and_networks():
    volume = client.volumes.create("py-volume", labels={"a": "b"})
    equal([found.name for found in client.volumes.list(filters={"label": "a=b"})], ["py-volume"])
    client.containers.run("busybox", ["sh", "-c", "echo kept > /data/x"], remove=True,
                          volumes={"py-volume": {"bind": "/data", "mode": "rw"}}, **QUIET)
    kept = client.containers.run("busybox", ["cat", "/data/x"], remove=True,
                                 volumes={"py-volume": {"bind": "/data", "mode": "ro"}}, **QUIET)
    equal(kept, b"kept\n")
    volume.remove()
    refuses(404, "py-volume", client.volumes.get, "py-volume")
    equal(sorted(network.name for network in client.networks.list()), ["host", "none"])
    refuses(404, "weave", client.networks.create, "n", driver="weave")


@check
def events():
    since = int(time.time()) - 1
    created("true").remove(v=True)
    heard = client.events(since=since, until=int(time.time()) + 1, decode=True, filters={"type": "container"})
    actions = [event["Action"] for event in heard]
    equal(actions[-2:], ["create", "destroy"])


@check
def old_versions():
    for version in ["1.24", "1.30", "1.41", "1.44", "1.50"]:
        old = docker.DockerClient(base_url=client.api.base_url.replace("http+docker://localhost", sys.argv[1]),
                                  version=version)
        equal(old.containers.run("busybox", ["echo", version], remove=True, **QUIET), f"{version}\n".encode())
        equal("VirtualSize" in old.images.list()[0].attrs, version < "1.44")


@check
def prunes():
    # One that could not be started stays where the library's `run` gives up.
    client.containers.prune()
    created("true", name="left")
    equal(len(client.containers.prune()["ContainersDeleted"]), 1)
    equal(client.images.prune()["SpaceReclaimed"], 0)
    equal(client.networks.prune()["NetworksDeleted"], None)
    client.volumes.prune()
    equal(client.volumes.list(filters={"dangling": True}), [])


finish()

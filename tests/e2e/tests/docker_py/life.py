"""Docker's own library for Python against the rest of a container's life: archives, figures, limits, health, volumes, events, sockets."""

import gzip
import io
import socket
import struct
import tarfile
import threading
import time

import docker
import requests
from docker.errors import NotFound
from docker.types import DeviceRequest, EndpointConfig, Healthcheck, LogConfig, Mount, Ulimit

from checks import check, equal, finish, refuses

client = docker.from_env(timeout=60)
PATIENCE = 30


def started(command, **more):
    more.setdefault("network_mode", "none")
    return client.containers.run("busybox", command, detach=True, **more)


def waited(what, state):
    """Waits until `state` gives something true."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if found := state():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}")


def packed(files):
    """A tar archive of these names and contents."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(content), 0o640, 1_000_000_000
            entry.uid, entry.gid = 1000, 1000
            archive.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def unpacked(stream):
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        return {entry.name: archive.extractfile(entry).read() if entry.isfile() else None for entry in archive}


@check
def archives():
    box = started(["sleep", "1000"])
    stopped = client.containers.create("busybox", "true", network_mode="none")
    for target in [box, stopped]:
        equal(target.put_archive("/tmp", packed({"a": b"one\n", "sub/b": b"two\n"})), True)
        stream, stat = target.get_archive("/tmp/a")
        equal((stat["name"], stat["size"], stat["mode"] & 0o777, stat["linkTarget"]), ("a", 4, 0o640, ""))
        equal(stat["mtime"], "2001-09-09T01:46:40Z")
        equal(unpacked(stream), {"a": b"one\n"})
        stream, stat = target.get_archive("/tmp/sub")
        equal((stat["name"], stat["mode"] >> 31), ("sub", 1))
        equal(unpacked(stream), {"sub": None, "sub/b": b"two\n"})
        # What is compressed is unpacked as well; a generator is sent in chunks.
        equal(target.put_archive("/tmp", gzip.compress(packed({"c": b"three\n"}))), True)
        data = packed({"d": bytes(300_000)})
        equal(target.put_archive("/tmp", (data[at:at + 4096] for at in range(0, len(data), 4096))), True)
        stream, _ = target.get_archive("/tmp/c", encode_stream=True)
        equal(unpacked(stream), {"c": b"three\n"})
        equal(len(unpacked(target.get_archive("/tmp/d")[0])["d"]), 300_000)
        refuses(404, "Could not find the file /nowhere", target.get_archive, "/nowhere")
        refuses(404, "Could not find the file /nowhere", target.put_archive, "/nowhere", packed({"a": b""}))
        refuses(400, "not a directory", target.put_archive, "/tmp/a", packed({"a": b""}))
        refuses(400, "", target.put_archive, "/tmp", b"no archive at all, and long enough for a block" * 20)
    equal(box.exec_run(["stat", "-c", "%u %g %a", "/tmp/a"]).output, b"1000 1000 640\n")
    equal(sorted(change["Path"] for change in stopped.diff() if change["Kind"] == 1),
          ["/tmp/a", "/tmp/c", "/tmp/d", "/tmp/sub", "/tmp/sub/b"])
    exported = unpacked(box.export())
    equal((exported["tmp/a"], exported["tmp/sub/b"]), (b"one\n", b"two\n"))
    box.remove(force=True)
    stopped.remove()


@check
def figures():
    box = started(["sh", "-c", "while :; do :; done"], name="busy", mem_limit="64m", nano_cpus=500_000_000)
    stream = box.stats(decode=True)
    first, second = next(stream), next(stream)
    stream.close()
    equal((second["name"], second["id"]), ("/busy", box.id))
    equal(second["precpu_stats"]["cpu_usage"], first["cpu_stats"]["cpu_usage"])
    spent = second["cpu_stats"]["cpu_usage"]["total_usage"] - first["cpu_stats"]["cpu_usage"]["total_usage"]
    machine = second["cpu_stats"]["system_cpu_usage"] - first["cpu_stats"]["system_cpu_usage"]
    share = spent / machine * second["cpu_stats"]["online_cpus"]
    equal(0.05 < share < 0.7, True)
    equal((second["memory_stats"]["limit"], second["pids_stats"]["current"]), (64 << 20, 1))
    once = box.stats(stream=False)
    equal(once["precpu_stats"]["cpu_usage"]["total_usage"] > 0, True)
    fast = client.api.stats(box.id, stream=False, one_shot=True)
    equal(fast["precpu_stats"]["cpu_usage"]["total_usage"], 0)
    box.kill()
    equal(box.wait()["StatusCode"], 137)
    still = box.stats(stream=False)
    equal((still["name"], still["memory_stats"], still["pids_stats"]), ("/busy", {}, {}))
    refuses(404, "No such container", client.api.stats, "nobody", stream=False)
    box.remove()


@check
def tops():
    box = started(["sh", "-c", "sleep 1000 & sleep 2000 & wait"])
    equal(box.top(ps_args="-o pid,args")["Titles"], ["PID", "COMMAND"])
    # A child is its parent's image until it has become another program.
    waited("two sleepers", lambda: sorted(row[1] for row in box.top(ps_args="-o pid,args")["Processes"])[1:]
           == ["sleep 1000", "sleep 2000"])
    equal(box.top()["Titles"][:2], ["UID", "PID"])
    box.kill()
    box.wait()
    refuses(409, "is not running", box.top)
    box.remove()


@check
def updates():
    box = started(["sleep", "1000"], mem_limit="64m", cpu_shares=512)
    equal(box.update(mem_limit="32m", memswap_limit="64m", cpu_shares=256), {"Warnings": None})
    box.reload()
    limits = box.attrs["HostConfig"]
    equal((limits["Memory"], limits["MemorySwap"], limits["CpuShares"]), (32 << 20, 64 << 20, 256))
    equal(box.stats(stream=False)["memory_stats"]["limit"], 32 << 20)
    box.update(restart_policy={"Name": "on-failure", "MaximumRetryCount": 3})
    box.reload()
    equal(box.attrs["HostConfig"]["RestartPolicy"], {"Name": "on-failure", "MaximumRetryCount": 3})
    refuses(400, "", box.update, mem_limit="1k")
    refuses(404, "No such container", client.api.update_container, "nobody", mem_limit="32m")
    box.remove(force=True)


@check
def healthchecks():
    second = 1_000_000_000
    probe = Healthcheck(test=["CMD-SHELL", "cat /state"], interval=second // 10, timeout=second, retries=2,
                        start_period=second)
    box = started(["sleep", "1000"], healthcheck=probe)
    equal(box.health, "unknown")
    box.reload()
    equal(box.health, "starting")
    box.put_archive("/", packed({"state": b"fine"}))
    waited("health", lambda: box.reload() or box.health == "healthy")
    equal(box.attrs["State"]["Health"]["Log"][-1]["Output"], "fine")
    box.exec_run(["rm", "/state"])
    waited("illness", lambda: box.reload() or box.health == "unhealthy")
    state = box.attrs["State"]["Health"]
    equal((state["FailingStreak"] >= 2, state["Log"][-1]["ExitCode"]), (True, 1))
    equal([found.id for found in client.containers.list(filters={"health": "unhealthy"})], [box.id])
    equal(box.attrs["Config"]["Healthcheck"],
          {"Test": ["CMD-SHELL", "cat /state"], "Interval": second // 10, "Timeout": second, "Retries": 2,
           "StartPeriod": second})
    heard = client.events(since=0, until=int(time.time()) + 1, decode=True,
                          filters={"container": box.id, "event": "health_status"})
    told = [event["Action"] for event in heard]
    equal(told[:2], ["health_status: healthy", "health_status: unhealthy"])
    box.remove(force=True)
    refuses(400, "", started, ["true"], healthcheck={"test": ["CMD", "true"], "interval": 10})


@check
def volumes():
    made = client.volumes.create(driver_opts={"type": "tmpfs", "device": "tmpfs", "o": "size=1m"},
                                 labels={"part": "a"}, name="small")
    equal((made.attrs["Driver"], made.attrs["Scope"], made.attrs["Options"]["o"]), ("local", "local", "size=1m"))
    anonymous = client.volumes.create()
    equal(len(anonymous.name), 64)
    mounts = [Mount("/small", "small"), Mount("/anonymous", anonymous.name, read_only=True),
              Mount("/memory", None, type="tmpfs", tmpfs_size=1 << 20)]
    box = started(["sleep", "1000"], mounts=mounts)
    table = box.exec_run(["cat", "/proc/mounts"]).output.decode()
    for line in ["tmpfs /small tmpfs rw", "/anonymous", "tmpfs /memory tmpfs rw"]:
        equal(line in table, True)
    equal(box.exec_run(["touch", "/anonymous/x"]).exit_code, 1)
    refuses(409, "volume is in use", made.remove)
    equal([found.name for found in client.volumes.list(filters={"label": "part=a"})], ["small"])
    equal([found.name for found in client.volumes.list(filters={"dangling": "true"})], [])
    box.remove(force=True)
    equal(sorted(found.name for found in client.volumes.list(filters={"dangling": "true"})),
          sorted(["small", anonymous.name]))
    # Of those that nobody uses the ones without a name go; with `all` the others too.
    equal(client.volumes.prune()["VolumesDeleted"], [anonymous.name])
    equal(client.volumes.prune(filters={"all": True, "label": "part=b"})["VolumesDeleted"], [])
    equal(client.volumes.prune(filters={"all": True})["VolumesDeleted"], ["small"])
    refuses(404, "small", made.reload)


@check
def events():
    heard, begun = [], threading.Event()
    stream = client.events(decode=True, filters={"type": ["container"], "label": "told", "event": [
        "create", "start", "die", "kill", "rename", "pause", "exec_create", "destroy"]})

    def listen():
        begun.set()
        for event in stream:
            heard.append(event)

    listener = threading.Thread(target=listen)
    listener.start()
    begun.wait()
    since = time.time()
    started(["true"]).remove(force=True)
    box = started(["sleep", "1000"], labels={"told": "yes"}, name="first")
    box.rename("second")
    box.pause()
    box.unpause()
    box.exec_run("true")
    box.kill(signal="KILL")
    box.wait()
    box.remove()
    waited("the end", lambda: heard and heard[-1]["Action"] == "destroy")
    stream.close()
    listener.join(PATIENCE)
    equal(listener.is_alive(), False)
    actions = [event["Action"] for event in heard]
    equal(actions, ["create", "start", "rename", "pause", "exec_create: true", "kill", "die", "destroy"])
    named = heard[2]["Actor"]["Attributes"]
    equal((named["name"], named["oldName"], named["told"], named["image"]), ("second", "/first", "yes", "busybox"))
    equal((heard[5]["Actor"]["Attributes"]["signal"], heard[6]["Actor"]["Attributes"]["exitCode"]), ("9", "137"))
    equal({event["Actor"]["ID"] for event in heard}, {box.id})
    equal(all(event["scope"] == "local" and event["timeNano"] // 10**9 == event["time"] for event in heard), True)
    # The same, told after the fact.
    again = client.events(since=f"{since:.9f}", until=f"{time.time():.9f}", decode=True, filters={"label": "told=yes",
                          "type": "container", "event": ["die", "create"]})
    equal([event["Action"] for event in again], ["create", "die"])


def frames(stream):
    """What came by both streams until the end."""
    data = {1: b"", 2: b""}
    while head := stream.recv(8, socket.MSG_WAITALL):
        kind, length = struct.unpack(">BxxxL", head)
        data[kind] += stream.recv(length, socket.MSG_WAITALL)
    return data[1], data[2]


@check
def sockets():
    box = client.containers.create("busybox", ["sh", "-c", "cat; echo done >&2"], stdin_open=True,
                                   network_mode="none")
    stream = box.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})._sock
    box.start()
    data = b"0123456789abcde\n" * 65536
    sender = threading.Thread(target=lambda: (stream.sendall(data), stream.shutdown(socket.SHUT_WR)))
    sender.start()
    # The end of what is sent reaches the program, and all that it says comes still.
    equal(frames(stream), (data, b"done\n"))
    sender.join(PATIENCE)
    equal(box.wait()["StatusCode"], 0)
    equal(box.logs(stderr=False) == data, True)
    stream = box.attach_socket(params={"logs": 1, "stdout": 0, "stderr": 1})._sock
    equal(frames(stream), (b"", b"done\n"))
    box.remove()
    box = client.containers.create("busybox", ["sh"], stdin_open=True, tty=True, network_mode="none")
    stream = box.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})._sock
    box.start()
    box.resize(height=41, width=99)
    stream.sendall(b"stty size; exit 7\n")
    said = b""
    while part := stream.recv(4096):
        said += part
    equal(b"41 99\r\n" in said, True)
    equal(box.wait()["StatusCode"], 7)
    box.remove()


@check
def log_options():
    box = client.containers.run("busybox", ["sh", "-c", "echo bad >&2; for i in 1 2 3 4 5; do echo line $i; done"],
                                detach=True, network_mode="none",
                                log_config=LogConfig(type="json-file", config={"max-size": "1m", "max-file": "2"}))
    box.wait()
    equal(box.logs(tail=6), box.logs())
    equal(box.logs(tail=6, stderr=False), b"".join(b"line %d\n" % number for number in range(1, 6)))
    # The end of both together, of which one is shown.
    equal(box.logs(tail=0), b"")
    lines = box.logs(timestamps=True, stdout=False).decode().split(" ", 1)
    equal(lines[1], "bad\n")
    equal(box.logs(since=int(time.time()) + 100), b"")
    equal(box.logs(until=int(time.time()) - 1000), b"")
    equal(b"".join(box.logs(stream=True, follow=True, stderr=False)).count(b"line"), 5)
    box.remove()


@check
def networks():
    network = client.networks.create("shop", driver="bridge", labels={"a": "b"}, attachable=True,
                                     ipam=docker.types.IPAMConfig(pool_configs=[
                                         docker.types.IPAMPool(subnet="10.93.0.0/24", gateway="10.93.0.1")]))
    server = client.containers.run(
        "busybox", ["sh", "-c", "mkdir /w; echo served > /w/index.html; exec httpd -f -p 80 -h /w"], detach=True,
        network="shop", networking_config={"shop": EndpointConfig("1.44", aliases=["web"], ipv4_address="10.93.0.9")},
        ports={"80/tcp": ("127.0.0.1", None)})
    server.reload()
    bound = server.ports["80/tcp"][0]
    equal(bound["HostIp"], "127.0.0.1")

    def fetch():
        try:
            with socket.create_connection(("127.0.0.1", int(bound["HostPort"])), timeout=5) as stream:
                stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return b"".join(iter(lambda: stream.recv(4096), b"")).endswith(b"served\n")
        except OSError:
            return False

    waited("the server", fetch)
    asker = client.containers.run("busybox", ["sleep", "1000"], detach=True, network_mode="none")
    asker.remove(force=True)
    asker = client.containers.run("busybox", ["sleep", "1000"], detach=True, network="shop")
    equal(asker.exec_run(["ping", "-c1", "-w5", "web"]).exit_code, 0)
    network.disconnect(asker)
    equal(asker.exec_run(["ping", "-c1", "-w1", "10.93.0.9"]).exit_code != 0, True)
    network.connect(asker, aliases=["asker"], ipv4_address="10.93.0.77")
    equal(server.exec_run(["ping", "-c1", "-w5", "asker"]).exit_code, 0)
    network.reload()
    equal(sorted(found.id for found in network.containers), sorted([server.id, asker.id]))
    refuses(403, "has active endpoints", network.remove)
    for container in [server, asker]:
        container.remove(force=True)
    equal([found.name for found in client.networks.list(names=["shop"], filters={"label": "a=b"})], ["shop"])
    equal(client.networks.prune(filters={"label": "a=c"})["NetworksDeleted"], None)
    equal(client.networks.prune(filters={"label": "a=b"})["NetworksDeleted"], ["shop"])


@check
def limits():
    box = started(["sh", "-c", "ulimit -n; cat /proc/sys/net/ipv4/ip_forward; hostname; id -u; pwd; cat /etc/hosts"],
                  ulimits=[Ulimit(name="nofile", soft=99, hard=100)], hostname="named", user="1000", working_dir="/tmp",
                  sysctls={"net.ipv4.ip_forward": "1"}, cap_drop=["ALL"], cap_add=["CHOWN"], read_only=True,
                  extra_hosts={"elsewhere": "192.0.2.7"}, shm_size="8m", init=True, labels=["bare"],
                  tmpfs={"/scratch": "size=1m,mode=1777"}, security_opt=["no-new-privileges"])
    equal(box.wait()["StatusCode"], 0)
    said = box.logs().decode().split("\n")
    equal(said[:5], ["99", "1", "named", "1000", "/tmp"])
    equal("192.0.2.7\telsewhere" in said, True)
    box.remove()
    refuses(400, "", started, ["true"], device_requests=[DeviceRequest(driver="nobody's", count=1)])


@check
def prunes():
    # Those that could not be started are still there.
    client.containers.prune()
    for label in ["old", "new"]:
        client.containers.create("busybox", "true", network_mode="none", labels={"age": label})
    gone = client.containers.prune(filters={"label": "age=old"})
    # What is reclaimed is the writable layer, of which nothing but its directory was there.
    equal((len(gone["ContainersDeleted"]), gone["SpaceReclaimed"] < 1 << 16), (1, True))
    equal(client.containers.prune(filters={"until": "1h"})["ContainersDeleted"], None)
    equal(len(client.containers.prune(filters={"label!": "age=old"})["ContainersDeleted"]), 1)
    client.images.get("busybox").tag("spare")
    client.images.remove("spare", noprune=True)
    equal(client.images.prune(filters={"dangling": False, "label": "nobody=has"})["ImagesDeleted"], None)
    refuses(400, "", client.containers.prune, filters={"nonsense": "x"})


@check
def ends():
    box = started(["sleep", "1000"], auto_remove=True)
    results = []
    waiting = threading.Thread(target=lambda: results.append(box.wait(condition="removed")))
    waiting.start()
    waited("the waiter", lambda: waiting.is_alive())
    box.stop(timeout=0)
    waiting.join(PATIENCE)
    equal(results, [{"StatusCode": 137}])
    try:
        waited("its end", lambda: client.containers.get(box.id) is None)
        raise AssertionError("is still there")
    except NotFound:
        pass
    box = started(["sleep", "1000"])
    try:
        box.wait(timeout=1)
        raise AssertionError("did not wait")
    except requests.exceptions.ConnectionError as error:
        equal("Read timed out" in str(error), True)
    refuses(409, "cannot remove container", box.remove)
    box.remove(force=True, v=True)
    refuses(404, "No such container", box.start)
    refuses(409, "is already in use", lambda: [client.containers.create("busybox", name="twice") for _ in range(2)])
    client.containers.get("twice").remove()


finish()

"""testcontainers for Python: containers that tests of other people's programs run beside."""

import os
import pathlib
import tempfile
import time
import urllib.request

from testcontainers.compose import DockerCompose
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import (
    CompositeWaitStrategy,
    ContainerStatusWaitStrategy,
    ExecWaitStrategy,
    FileExistsWaitStrategy,
    HealthcheckWaitStrategy,
    HttpWaitStrategy,
    LogMessageWaitStrategy,
    PortWaitStrategy,
)

from checks import check, equal, finish

SERVE = ["sh", "-c", "echo starting; sleep 0.3; echo ready to serve; touch /tmp/ready; exec httpd -f -p 8080 -h /srv"]


def server():
    return (DockerContainer("busybox").with_command(SERVE).with_exposed_ports(8080)
            .with_copy_into_container(b"served\n", "/srv/index.html"))


def fetched(container):
    at = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(8080)}/"
    with urllib.request.urlopen(at, timeout=10) as answer:
        return answer.read()


@check
def a_server():
    with server().waiting_for(PortWaitStrategy(8080)) as container:
        equal(fetched(container), b"served\n")
        container.reload()
        equal(container.status, "running")
        wrapped = container.get_wrapped_container()
    wrapped.client.api.close()
    for found in container.get_docker_client().client.containers.list(all=True):
        raise AssertionError(f"{found.name} is still there")


@check
def every_way_of_waiting():
    at = time.monotonic()
    for way in [
        LogMessageWaitStrategy("ready to serve"),
        HttpWaitStrategy(8080).for_status_code(200).for_response_predicate(lambda body: "served" in body),
        ExecWaitStrategy(["test", "-e", "/tmp/ready"]),
        ContainerStatusWaitStrategy(),
        CompositeWaitStrategy(LogMessageWaitStrategy("starting"), PortWaitStrategy(8080)),
    ]:
        with server().waiting_for(way.with_startup_timeout(30)) as container:
            container.reload()
            equal(container.status, "running")
    with tempfile.TemporaryDirectory() as folder:
        mounted = server().with_volume_mapping(folder, "/tmp", "rw")
        with mounted.waiting_for(FileExistsWaitStrategy(f"{folder}/ready").with_startup_timeout(30)):
            equal(os.listdir(folder), ["ready"])
    second = 1_000_000_000
    probe = {"test": ["CMD-SHELL", "nc 127.0.0.1 8080 < /dev/null"], "interval": second // 5, "timeout": second, "retries": 100}
    with server().with_kwargs(healthcheck=probe).waiting_for(HealthcheckWaitStrategy().with_startup_timeout(30)) as container:
        equal(container.get_wrapped_container().client.api.inspect_container(container.get_container_id())
              ["State"]["Health"]["Status"], "healthy")
    try:
        with server().waiting_for(LogMessageWaitStrategy("never said").with_startup_timeout(1)):
            raise AssertionError("was said")
    except TimeoutError as error:
        equal("never said" in str(error), True)
    equal(time.monotonic() - at < 120, True)


@check
def commands_files_and_logs():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        tree = pathlib.Path(folder, "tree")
        tree.mkdir()
        (tree / "leaf").write_text("a leaf\n")
        box = (DockerContainer("busybox")
               .with_command("sh -c 'echo first; echo second >&2; exec sleep 1000'").with_env("A", "b")
               .with_envs(C="d").with_name("named").with_volume_mapping(folder, "/mounted")
               .with_copy_into_container(tree, "/copied").with_copy_into_container(b"#!/bin/sh\necho ran\n", "/run-me", 0o755)
               .with_kwargs(user="1000", working_dir="/tmp", mem_limit="64m", labels={"k": "v"}, cap_drop=["ALL"], hostname="host"))
        both = CompositeWaitStrategy(LogMessageWaitStrategy("first"), LogMessageWaitStrategy("second"))
        with box.waiting_for(both) as container:
            equal(container.get_logs(), (b"first\n", b"second\n"))
            told = container.exec(["sh", "-c", "echo $A$C; id -u; pwd; hostname; cat /mounted/tree/leaf /copied/tree/leaf; /run-me"])
            equal((told.exit_code, told.output), (0, b"bd\n1000\n/tmp\nhost\na leaf\na leaf\nran\n"))
            equal(container.exec("sh -c 'exit 9'").exit_code, 9)
            equal(container.exec(["touch", "/mounted/x"]).exit_code, 1)
            container.copy_into_container(b"later\n", "/late/on")
            back = pathlib.Path(folder, "back")
            container.copy_from_container("/late/on", back)
            equal(back.read_bytes(), b"later\n")


@check
def networks():
    with Network() as network:
        web = server().with_network(network).with_network_aliases("web", "www")
        with web.waiting_for(CompositeWaitStrategy(LogMessageWaitStrategy("ready"), PortWaitStrategy(8080))) as container:
            with DockerContainer("busybox").with_command("sleep 1000").with_network(network) as asker:
                said = asker.exec(["sh", "-c", "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc web 8080"])
                equal(said.output.endswith(b"served\n"), True)
                equal(asker.exec(["ping", "-c1", "-w5", "www"]).exit_code, 0)
            equal(fetched(container), b"served\n")


@check
def a_project():
    if "COMPOSE" not in os.environ:
        return
    with tempfile.TemporaryDirectory(prefix="tcproject") as folder:
        pathlib.Path(folder, "compose.yaml").write_text("""
services:
  web:
    image: busybox
    command: sh -c 'mkdir /srv; echo composed > /srv/index.html; echo up; exec httpd -f -p 8080 -h /srv'
    ports: ["8080"]
    stop_grace_period: 0s
""")
        with DockerCompose(folder, pull=False, docker_command_path=os.environ["COMPOSE"]) as project:
            host, port = project.get_service_host_and_port("web", 8080)

            def answers():
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                        return answer.read() == b"composed\n"
                except OSError:
                    return False

            until = time.monotonic() + 30
            while not answers():
                equal(time.monotonic() < until, True)
                time.sleep(0.05)
            equal(host != "", True)
            equal("up" in project.get_logs("web")[0], True)
            said, _, code = project.exec_in_container(["echo", "inside"], "web")
            equal((said.strip(), code), ("inside", 0))
            equal([found.State for found in project.get_containers()], ["running"])


finish()

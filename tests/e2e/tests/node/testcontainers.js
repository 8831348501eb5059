// testcontainers for Node: containers that tests of other people's programs run beside.
"use strict";
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { GenericContainer, Network, Wait, getContainerRuntimeClient } = require("testcontainers");
const { check, equal, waited, read, finish } = require("./checks.js");

const SERVE = ["sh", "-c", "echo starting; sleep 0.3; echo ready to serve; exec httpd -f -v -p 8080 -h /srv"];
const PAGE = { content: "served\n", target: "/srv/index.html", mode: 0o644 };

const fetched = async (container, at = "/") => {
  const answer = await fetch(`http://${container.getHost()}:${container.getMappedPort(8080)}${at}`);
  return [answer.status, await answer.text()];
};

check("a server, found by its port", async () => {
  const container = await new GenericContainer("busybox").withCommand(SERVE).withCopyContentToContainer([PAGE])
    .withExposedPorts(8080).start();
  equal(await fetched(container), [200, "served\n"]);
  const stopped = await container.stop();
  equal(stopped.getId(), container.getId());
});

check("every way of waiting", async () => {
  const base = () => new GenericContainer("busybox").withCommand(SERVE).withCopyContentToContainer([PAGE]).withExposedPorts(8080);
  const ways = [
    Wait.forLogMessage("ready to serve"),
    Wait.forLogMessage(/ready .* serve/, 1),
    Wait.forHttp("/", 8080).forStatusCode(200).forResponsePredicate((body) => body === "served\n"),
    Wait.forSuccessfulCommand("nc 127.0.0.1 8080 < /dev/null"),
    Wait.forAll([Wait.forListeningPorts(), Wait.forLogMessage("ready")]),
  ];
  for (const way of ways) {
    const container = await base().withWaitStrategy(way).start();
    // It says that it is ready a moment before it listens.
    const page = await waited("the page", () => fetched(container).catch(() => undefined));
    equal(page, [200, "served\n"]);
    await container.stop();
  }
  const healthy = await base().withHealthCheck({ test: ["CMD-SHELL", "nc 127.0.0.1 8080 < /dev/null"], interval: 200, timeout: 1000, retries: 50 })
    .withWaitStrategy(Wait.forHealthCheck()).start();
  await healthy.stop();
  const once = await new GenericContainer("busybox").withCommand(["true"]).withWaitStrategy(Wait.forOneShotStartup()).start();
  await once.stop();
  const failed = await new GenericContainer("busybox").withCommand(["sh", "-c", "echo gone wrong; exit 3"])
    .withWaitStrategy(Wait.forLogMessage("never said")).withStartupTimeout(5000).start().then(() => "started", (error) => error.message);
  equal(failed.includes("never said"), true);
});

check("commands, files, logs", async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "tc-node-"));
  try {
    fs.mkdirSync(path.join(folder, "tree/below"), { recursive: true });
    fs.writeFileSync(path.join(folder, "file"), "a file\n");
    fs.writeFileSync(path.join(folder, "tree/below/leaf"), "a leaf\n");
    const lines = [];
    const container = await new GenericContainer("busybox").withCommand(["sh", "-c", "echo first; echo second >&2; exec sleep 1000"])
      .withCopyFilesToContainer([{ source: path.join(folder, "file"), target: "/in/file", mode: 0o600 }])
      .withCopyDirectoriesToContainer([{ source: path.join(folder, "tree"), target: "/in/tree" }])
      .withEnvironment({ A: "b" }).withLabels({ k: "v" }).withUser("0:0").withWorkingDir("/in").withTmpFs({ "/scratch": "rw,size=1m" })
      .withResourcesQuota({ memory: 0.125, cpu: 0.5 }).withSharedMemorySize(8 << 20).withAddedCapabilities("NET_ADMIN")
      .withDroppedCapabilities("MKNOD").withUlimits({ nofile: { soft: 99, hard: 100 } }).withHostname("named")
      .withExtraHosts([{ host: "elsewhere", ipAddress: "192.0.2.7" }])
      .withLogConsumer((stream) => stream.on("data", (line) => lines.push(String(line).trim()))).start();
    await waited("both lines", () => lines.includes("first") && lines.includes("second"));
    const told = await container.exec(["sh", "-c", "cat file tree/below/leaf; stat -c %a file; echo $A; ulimit -n; hostname; grep elsewhere /etc/hosts"]);
    equal([told.exitCode, told.stdout.split("\n").slice(0, 6)], [0, ["a file", "a leaf", "600", "b", "99", "named"]]);
    equal(told.stdout.includes("192.0.2.7"), true);
    const failed = await container.exec(["sh", "-c", "echo out; echo err >&2; exit 9"]);
    equal([failed.exitCode, failed.stdout, failed.stderr], [9, "out\n", "err\n"]);
    const other = await container.exec(["sh", "-c", "id -u; pwd; echo $X"], { user: "1000", workingDir: "/tmp", env: { X: "y" } });
    equal(other.output, "1000\n/tmp\ny\n");
    await container.copyContentToContainer([{ content: "later\n", target: "/late/on" }]);
    await container.copyDirectoriesToContainer([{ source: path.join(folder, "tree"), target: "/again" }]);
    equal((await container.exec(["cat", "/late/on", "/again/below/leaf"])).stdout, "later\na leaf\n");
    const archive = await container.copyArchiveFromContainer("/in/tree");
    equal((await read(archive)).includes("a leaf\n"), true);
    const log = await container.logs({ tail: 10 });
    const all = [];
    log.on("data", (line) => all.push(String(line)));
    await waited("the log", () => all.join("").includes("first") && all.join("").includes("second"));
    log.destroy();
    const image = await container.commit({ repo: "kept", tag: "1" });
    equal(image.length > 0, true);
    await container.restart({ timeout: 0 });
    equal((await container.exec(["cat", "/late/on"])).stdout, "later\n");
    await container.stop({ remove: true, removeVolumes: true, timeout: 0 });
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
});

check("networks", async () => {
  const network = await new Network().start();
  const server = await new GenericContainer("busybox").withCommand(SERVE).withCopyContentToContainer([PAGE]).withNetwork(network)
    .withNetworkAliases("web").withExposedPorts(8080).start();
  const asker = await new GenericContainer("busybox").withCommand(["sleep", "1000"]).withNetwork(network).start();
  equal((await asker.exec(["ping", "-c1", "-w5", "web"])).exitCode, 0);
  equal((await asker.exec(["sh", "-c", "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc web 8080"])).stdout.endsWith("served\n"), true);
  // With aliases it is connected after it was made, and stays on the network that it was made for.
  equal(server.getNetworkNames().sort(), [network.getName(), "bridge"].sort());
  equal(asker.getNetworkNames(), [network.getName()]);
  equal(server.getIpAddress(network.getName()).split(".").length, 4);
  await Promise.all([server.stop({ timeout: 0 }), asker.stop({ timeout: 0 })]);
  await network.stop();
});

check("one that is used again, and what remains", async () => {
  const make = () => new GenericContainer("busybox").withCommand(["sleep", "1000"]).withReuse().withLabels({ kept: "yes" }).start();
  const [first, second] = [await make(), await make()];
  equal(first.getId(), second.getId());
  await first.stop({ timeout: 0 });
  const client = await getContainerRuntimeClient();
  equal((await client.container.list()).length, 0);
  equal(client.info.containerRuntime.hostIps.length > 0, true);
});

finish();

// dockerode against the engine: what programs in Node do with containers, each with what must come back.
"use strict";
const { PassThrough } = require("node:stream");
const { once } = require("node:events");
const http = require("node:http");
const tar = require("tar-stream");
const Docker = require("dockerode");
const { check, equal, refuses, waited, read, finish } = require("./checks.js");

const docker = new Docker({ socketPath: process.env.DOCKER_HOST.replace("unix://", "") });
const QUIET = { NetworkMode: "none" };

const created = (Cmd, more = {}) =>
  docker.createContainer({ Image: "busybox", Cmd, ...more, HostConfig: { ...QUIET, ...more.HostConfig } });

async function started(Cmd, more) {
  const container = await created(Cmd, more);
  await container.start();
  return container;
}

/// What came by a stream of frames, its two sides apart.
async function demuxed(stream) {
  const [out, err] = [new PassThrough(), new PassThrough()];
  docker.modem.demuxStream(stream, out, err);
  const both = Promise.all([read(out), read(err)]);
  stream.on("end", () => (out.end(), err.end()));
  return (await both).map(String);
}

function packed(files) {
  const pack = tar.pack();
  for (const [name, content] of Object.entries(files)) pack.entry({ name, mode: 0o640, uid: 1000, gid: 1000 }, content);
  pack.finalize();
  return pack;
}

async function unpacked(stream) {
  const files = {};
  const extract = tar.extract();
  extract.on("entry", (header, content, next) => {
    read(content).then((data) => ((files[header.name] = String(data)), next()), next);
  });
  stream.pipe(extract);
  await once(extract, "finish");
  return files;
}

check("system", async () => {
  equal(String(await docker.ping()), "OK");
  const [version, info, usage] = await Promise.all([docker.version(), docker.info(), docker.df()]);
  equal([version.Os, info.OSType, typeof info.Containers, info.Swarm.LocalNodeState], ["linux", "linux", "number", "inactive"]);
  equal(usage.ImageUsage.TotalCount, (await docker.listImages()).length);
  equal((await docker.getImage("busybox").inspect()).RepoTags, ["busybox:latest"]);
  await refuses(404, "no such image", docker.createContainer({ Image: "nothing" }).catch((error) => {
    error.message = error.message.toLowerCase();
    throw error;
  }));
});

check("run", async () => {
  const output = new PassThrough();
  const said = read(output);
  const [result, container] = await docker.run("busybox", ["sh", "-c", "echo hi; exit 3"], output, { HostConfig: QUIET });
  equal([result.StatusCode, String(await said)], [3, "hi\r\n"]);
  await container.remove();
});

check("attach with a hijacked connection whose input is closed", async () => {
  const container = await created(["sh", "-c", "cat; echo done >&2"], { OpenStdin: true, StdinOnce: true, AttachStdin: true });
  const stream = await container.attach({ stream: true, hijack: true, stdin: true, stdout: true, stderr: true });
  const said = demuxed(stream);
  await container.start();
  const data = "0123456789abcde\n".repeat(65536);
  stream.write(data);
  stream.end();
  const [out, err] = await said;
  equal([out.length, out === data, err], [data.length, true, "done\n"]);
  equal(await container.wait(), { StatusCode: 0 });
  // The same from its log.
  const log = await container.logs({ stdout: true, stderr: true, follow: true });
  const [again, errors] = await demuxed(log);
  equal([again === data, errors], [true, "done\n"]);
  await container.remove();
});

check("attach without hijacking, and on a terminal", async () => {
  const container = await created(["sh", "-c", "echo out; echo err >&2"]);
  const said = demuxed(await container.attach({ stream: true, stdout: true, stderr: true }));
  await container.start();
  equal(await said, ["out\n", "err\n"]);
  await container.remove({ force: true });
  const terminal = await created(["sh"], { OpenStdin: true, Tty: true });
  const stream = await terminal.attach({ stream: true, hijack: true, stdin: true, stdout: true, stderr: true });
  const all = read(stream);
  await terminal.start();
  await terminal.resize({ h: 41, w: 99 });
  stream.write("stty size; exit 7\n");
  equal(String(await all).includes("41 99\r\n"), true);
  equal(await terminal.wait(), { StatusCode: 7 });
  await terminal.remove();
});

check("exec", async () => {
  const box = await started(["sleep", "1000"]);
  // Many times: output that comes with the answer's head would be lost now and then.
  for (let count = 0; count < 20; count++) {
    const exec = await box.exec({ Cmd: ["sh", "-c", "echo a; echo b >&2; exit 4"], AttachStdout: true, AttachStderr: true });
    equal(await demuxed(await exec.start({})), ["a\n", "b\n"]);
    const { ExitCode, Running, ProcessConfig } = await exec.inspect();
    equal([ExitCode, Running, ProcessConfig.entrypoint], [4, false, "sh"]);
  }
  const echo = await box.exec({ Cmd: ["cat"], AttachStdin: true, AttachStdout: true });
  const stream = await echo.start({ hijack: true, stdin: true });
  const said = demuxed(stream);
  stream.end("half closed\n");
  equal(await said, ["half closed\n", ""]);
  const terminal = await box.exec({ Cmd: ["sh", "-c", "tty; id -u; pwd; echo $A"], AttachStdout: true, Tty: true, User: "1000",
    WorkingDir: "/tmp", Env: ["A=B"] });
  equal(String(await read(await terminal.start({ Tty: true }))), "/dev/pts/0\r\n1000\r\n/tmp\r\nB\r\n");
  const detached = await box.exec({ Cmd: ["touch", "/tmp/detached"] });
  await detached.start({ Detach: true });
  await waited("the detached command", async () => !(await detached.inspect()).Running);
  await box.getArchive({ path: "/tmp/detached" }).then((archive) => archive.resume());
  await box.remove({ force: true });
});

check("stats", async () => {
  const box = await started(["sleep", "1000"], { name: "figures", HostConfig: { Memory: 64 << 20 } });
  const stream = await box.stats({ stream: true });
  const samples = [];
  let rest = "";
  for await (const part of stream) {
    rest += part;
    const lines = rest.split("\n");
    rest = lines.pop();
    samples.push(...lines.map(JSON.parse));
    if (samples.length >= 2) break;
  }
  equal([samples[1].name, samples[1].memory_stats.limit], ["/figures", 64 << 20]);
  equal(samples[1].precpu_stats.cpu_usage, samples[0].cpu_stats.cpu_usage);
  const once = await box.stats({ stream: false, "one-shot": true });
  equal([once.id, once.pids_stats.current], [box.id, 1]);
  equal((await box.top({ ps_args: "-o pid,args" })).Processes.length, 1);
  await box.remove({ force: true });
});

check("archives", async () => {
  const box = await started(["sleep", "1000"]);
  const stopped = await created(["true"]);
  for (const target of [box, stopped]) {
    await target.putArchive(packed({ a: "one\n", "sub/b": "two\n", big: "x".repeat(300_000) }), { path: "/tmp" });
    const files = await unpacked(await target.getArchive({ path: "/tmp/." }));
    equal([files["./a"] ?? files.a, (files["./big"] ?? files.big).length], ["one\n", 300_000]);
    const about = await target.infoArchive({ path: "/tmp/a" });
    await about.resume();
    const stat = JSON.parse(Buffer.from(about.headers["x-docker-container-path-stat"], "base64"));
    equal([stat.name, stat.size, stat.mode], ["a", 4, 0o640]);
    await refuses(404, "Could not find the file", target.getArchive({ path: "/nowhere" }));
    await refuses(400, "not a directory", target.putArchive(packed({ c: "" }), { path: "/tmp/a" }));
  }
  equal((await stopped.changes()).filter((change) => change.Kind === 1).length, 4);
  equal((await unpacked(await box.export()))["tmp/sub/b"], "two\n");
  await Promise.all([box.remove({ force: true }), stopped.remove()]);
});

check("events", async () => {
  const heard = [];
  const stream = await docker.getEvents({ filters: { label: ["told"], type: ["container"] } });
  let rest = "";
  stream.on("data", (part) => {
    const lines = (rest + part).split("\n");
    rest = lines.pop();
    heard.push(...lines.map(JSON.parse));
  });
  const box = await started(["sleep", "1000"], { Labels: { told: "yes" } });
  await box.pause();
  await box.unpause();
  await box.rename({ name: "renamed" });
  await box.update({ Memory: 32 << 20, MemorySwap: 64 << 20 });
  await box.restart({ t: 0 });
  await box.stop({ t: 0 });
  await box.remove();
  await waited("the end", () => heard.at(-1)?.Action === "destroy");
  stream.destroy();
  equal(heard.map((event) => event.Action), ["create", "start", "pause", "unpause", "rename", "update", "kill", "kill",
    "die", "stop", "start", "restart", "kill", "kill", "die", "stop", "destroy"]);
  equal([heard[0].Actor.ID, heard[0].Actor.Attributes.image, heard[0].Actor.Attributes.told], [box.id, "busybox", "yes"]);
  // By an older version of the API, which older programs name, with the fields of old.
  const old = new Docker({ socketPath: docker.modem.socketPath, version: "v1.41" });
  const again = await old.getEvents({ since: 0, until: Math.floor(Date.now() / 1000) + 1, filters: { container: [box.id] } });
  const [first] = String(await read(again)).split("\n").map((line) => line && JSON.parse(line));
  equal([first.status, first.id, first.from], ["create", box.id, "busybox"]);
  equal(Array.isArray((await old.df()).Images), true);
});

check("wait and remove", async () => {
  const until = ["sh", "-c", "read line; exit 5"];
  const box = await created(until, { OpenStdin: true, StdinOnce: true, HostConfig: { AutoRemove: true } });
  const input = await box.attach({ stream: true, hijack: true, stdin: true });
  await box.start();
  const ended = [box.wait(), box.wait({ condition: "next-exit" }), box.wait({ condition: "removed" })];
  // Its answer comes by the same queue.
  await box.rename({ name: "awaited" });
  input.end("go\n");
  equal(await Promise.all(ended), Array(3).fill({ StatusCode: 5 }));
  await refuses(404, "No such container", box.inspect());
  // Whenever it is asked in a life that is short: how it ended, or that there is none.
  for (let count = 0; count < 20; count++) {
    const short = await created(["true"], { HostConfig: { AutoRemove: true } });
    const waits = ["removed", "next-exit", "removed"].map((condition) =>
      short.wait({ condition }).then((answer) => answer.StatusCode, (error) => error.statusCode));
    await short.start();
    const answers = await Promise.all(waits);
    equal(answers.every((answer) => answer === 0 || answer === 404), true);
  }
  const again = await started(["sleep", "1000"], { name: "held" });
  await refuses(304, "", again.start());
  await refuses(409, "already in use", created(["true"], { name: "held" }));
  await refuses(409, "", again.remove());
  await refuses(400, "", again.kill({ signal: "NOTHING" }));
  await again.kill({ signal: "TERM" }).then(() => again.kill());
  equal(await again.wait(), { StatusCode: 137 });
  await again.remove({ v: true });
  // Who gives up waiting leaves nothing that hinders.
  const giver = await started(["sleep", "1000"]);
  const abort = new AbortController();
  const waiting = giver.wait({ abortSignal: abort.signal });
  abort.abort();
  equal(await waiting.then(() => "answered", (error) => error.name), "AbortError");
  await giver.remove({ force: true });
});

check("volumes and networks", async () => {
  const volume = await docker.createVolume({ Name: "node", Labels: { a: "b" } });
  const writer = await started(["sh", "-c", "echo kept > /data/x"], { HostConfig: { Binds: ["node:/data"] } });
  await writer.wait();
  await writer.remove();
  const network = await docker.createNetwork({ Name: "net", Driver: "bridge", IPAM: { Config: [{ Subnet: "10.94.0.0/24" }] } });
  const server = await docker.createContainer({
    Image: "busybox", Cmd: ["httpd", "-f", "-p", "80", "-h", "/data"], ExposedPorts: { "80/tcp": {} },
    HostConfig: { NetworkMode: "net", PortBindings: { "80/tcp": [{ HostPort: "" }] }, Mounts: [{ Type: "volume", Source: "node",
      Target: "/data", ReadOnly: true }] },
    NetworkingConfig: { EndpointsConfig: { net: { Aliases: ["web"], IPAMConfig: { IPv4Address: "10.94.0.9" } } } },
  });
  await server.start();
  const { NetworkSettings, Mounts } = await server.inspect();
  equal([NetworkSettings.Networks.net.IPAddress, Mounts[0].Name, Mounts[0].RW], ["10.94.0.9", "node", false]);
  const port = Number(NetworkSettings.Ports["80/tcp"][0].HostPort);
  const fetched = () => new Promise((resolve) => {
    http.get({ host: "127.0.0.1", port, path: "/x" }, (answer) => read(answer).then(String).then(resolve)).on("error", () => resolve(""));
  });
  await waited("the server", async () => (await fetched()) === "kept\n");
  equal(Object.keys((await network.inspect()).Containers), [server.id]);
  await refuses(409, "in use", volume.remove());
  await server.remove({ force: true });
  await network.remove();
  equal((await docker.listVolumes({ filters: { label: ["a=b"] } })).Volumes.length, 1);
  await volume.remove();
  await refuses(404, "no such volume", volume.inspect());
});

check("images", async () => {
  const box = await created(["true"]);
  const { Id } = await box.commit({ repo: "made", tag: "1", changes: "ENV A=b" });
  equal((await docker.getImage("made:1").inspect()).Id, Id);
  const archive = await docker.getImage("made:1").get();
  const saved = await read(archive);
  await box.remove();
  await docker.getImage("made:1").remove();
  const answer = await docker.loadImage(saved);
  const told = await new Promise((resolve, reject) => {
    docker.modem.followProgress(answer, (error, lines) => (error ? reject(error) : resolve(lines)));
  });
  equal(told.some((line) => line.stream?.includes("Loaded image: made:1")), true);
  await docker.getImage("made:1").tag({ repo: "other", tag: "2" });
  equal((await docker.getImage("other:2").history())[0].Id, Id);
  await docker.getImage("other:2").remove();
  equal((await docker.getImage("made:1").remove()).some((line) => line.Untagged?.endsWith("made:1")), true);
  equal((await docker.pruneContainers()).ContainersDeleted, null);
});

finish();

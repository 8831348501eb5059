//! bollard, Rust's client of Docker's interface: what it reads of every answer into its own types.

use std::collections::HashMap;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::StartExecResults;
use bollard::models::{
    ContainerCreateBody, ContainerStateStatusEnum, ContainerUpdateBody, EventMessageTypeEnum, ExecConfig,
    HealthConfig, HealthStatusEnum, HostConfig, NetworkCreateRequest, PortBinding, VolumeCreateRequest,
};
use bollard::query_parameters as query;
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use kit::{Host, fixtures};
use tokio::io::AsyncWriteExt as _;

/// Seconds after which an answer is given up.
const TIMEOUT: u64 = 60;
/// For what is to come by a stream.
const PATIENCE: Duration = Duration::from_secs(30);

/// Does something with bollard on a host apart.
fn with_client(work: impl AsyncFnOnce(Docker)) {
    let host = Host::apart();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let socket = host.socket();
        let client = Docker::connect_with_unix(&socket.to_string_lossy(), TIMEOUT, API_DEFAULT_VERSION);
        work(client.expect("a client").negotiate_version().await.expect("agree on a version")).await;
    });
}

fn words(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(ToString::to_string).collect())
}

fn map(key: &str, value: &str) -> HashMap<String, String> {
    HashMap::from([(key.to_owned(), value.to_owned())])
}

/// A container of busybox, without a network unless it says so.
async fn created(docker: &Docker, command: &[&str], change: impl FnOnce(&mut ContainerCreateBody)) -> String {
    let quiet = HostConfig { network_mode: Some("none".to_owned()), ..Default::default() };
    let mut body = ContainerCreateBody {
        image: Some("busybox".to_owned()),
        cmd: words(command),
        host_config: Some(quiet),
        ..Default::default()
    };
    change(&mut body);
    docker.create_container(None, body).await.expect("create a container").id
}

async fn started(docker: &Docker, command: &[&str]) -> String {
    let id = created(docker, command, |_| ()).await;
    docker.start_container(&id, None).await.expect("start a container");
    id
}

async fn remove(docker: &Docker, id: &str) {
    let options = query::RemoveContainerOptions { force: true, v: true, link: false };
    docker.remove_container(id, Some(options)).await.expect("remove a container");
}

/// What came by standard output and by standard error until the end.
async fn both(mut stream: impl Stream<Item = Result<LogOutput, Error>> + Unpin) -> (String, String) {
    let (mut out, mut err) = (String::new(), String::new());
    while let Some(part) = stream.next().await {
        match part.expect("a part of the output") {
            LogOutput::StdErr { message } => err.push_str(&String::from_utf8_lossy(&message)),
            other => out.push_str(&String::from_utf8_lossy(other.as_ref())),
        }
    }
    (out, err)
}

/// The code that a wait tells, which bollard makes an error unless it is 0.
async fn waited(docker: &Docker, id: &str, condition: &str) -> i64 {
    let options = query::WaitContainerOptions { condition: condition.to_owned() };
    match docker.wait_container(id, Some(options)).next().await.expect("an answer") {
        Ok(answer) => answer.status_code,
        Err(Error::DockerContainerWaitError { code, .. }) => code,
        Err(error) => panic!("{error}"),
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, Error>, status: u16, text: &str) {
    match result {
        Err(Error::DockerResponseServerError { status_code, message }) => {
            assert_eq!(status_code, status, "{message}");
            assert!(message.contains(text), "{message}");
        }
        other => panic!("{other:?} instead of {status}"),
    }
}

#[test]
fn what_the_system_is_reads() {
    with_client(async |docker| {
        assert_eq!(docker.ping().await.unwrap(), "OK");
        let version = docker.version().await.unwrap();
        assert_eq!(version.os.as_deref(), Some("linux"));
        assert!(version.components.unwrap().iter().any(|component| component.name == "Engine"));
        let info = docker.info().await.unwrap();
        assert_eq!((info.os_type.as_deref(), info.images), (Some("linux"), Some(1)));
        assert_eq!(info.containers, Some(0));
        assert!(info.security_options.unwrap().iter().any(|option| option.contains("seccomp")));
        let id = created(&docker, &["true"], |_| ()).await;
        let options = query::DataUsageOptions { verbose: true, ..Default::default() };
        let usage = docker.df(Some(options)).await.unwrap();
        assert_eq!(usage.image_usage.unwrap().total_count, Some(1));
        assert_eq!(usage.container_usage.unwrap().items.unwrap().len(), 1);
        let images = docker.list_images(None::<query::ListImagesOptions>).await.unwrap();
        assert_eq!(images[0].repo_tags, ["busybox:latest"]);
        let image = docker.inspect_image("busybox").await.unwrap();
        assert_eq!(image.config.unwrap().cmd, words(&["sh"]));
        assert_eq!(docker.image_history("busybox").await.unwrap()[0].id, image.id.unwrap());
        remove(&docker, &id).await;
        refused(docker.inspect_container("nobody", None).await, 404, "No such container: nobody");
        refused(docker.inspect_image("nothing").await, 404, "nothing");
    });
}

#[test]
fn a_life_reads_at_every_step() {
    with_client(async |docker| {
        let probe = HealthConfig {
            test: words(&["CMD-SHELL", "grep -q ^sleep /proc/1/cmdline && echo fine"]),
            interval: Some(100_000_000),
            ..Default::default()
        };
        let id = created(&docker, &["sh", "-c", "echo out; echo err >&2; exec sleep 1000"], |body| {
            body.labels = Some(map("k", "v"));
            body.healthcheck = Some(probe.clone());
            body.exposed_ports = words(&["80/tcp"]);
            body.env = words(&["A=b"]);
        })
        .await;
        let before = docker.inspect_container(&id, None).await.unwrap();
        assert_eq!(before.state.unwrap().status, Some(ContainerStateStatusEnum::CREATED));
        docker.start_container(&id, None).await.unwrap();
        refused(docker.remove_container(&id, None).await, 409, "container is running");
        let healthy = async {
            loop {
                let seen = docker.inspect_container(&id, None).await.unwrap();
                let health = seen.state.clone().unwrap().health.unwrap();
                if health.status == Some(HealthStatusEnum::HEALTHY) {
                    return (seen, health.log.unwrap());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let (seen, results) = tokio::time::timeout(PATIENCE, healthy).await.expect("its health");
        assert_eq!(results.last().unwrap().output.as_deref(), Some("fine\n"));
        let config = seen.config.unwrap();
        assert_eq!((config.exposed_ports, config.healthcheck), (words(&["80/tcp"]), Some(probe)));
        let options = query::ListContainersOptions {
            filters: Some(HashMap::from([("health".to_owned(), vec!["healthy".to_owned()])])),
            size: true,
            ..Default::default()
        };
        let listed = docker.list_containers(Some(options)).await.unwrap();
        assert_eq!((listed.len(), listed[0].labels.clone()), (1, Some(map("k", "v"))));

        let options =
            query::LogsOptions { stdout: true, stderr: true, tail: "all".to_owned(), ..Default::default() };
        assert_eq!(both(docker.logs(&id, Some(options))).await, ("out\n".to_owned(), "err\n".to_owned()));
        let top = docker
            .top_processes(&id, Some(query::TopOptions { ps_args: "-o pid,args".to_owned() }))
            .await
            .unwrap();
        assert!(top.processes.unwrap().iter().any(|row| row[1] == "sleep 1000"));
        let change =
            ContainerUpdateBody { memory: Some(32 << 20), memory_swap: Some(64 << 20), ..Default::default() };
        docker.update_container(&id, change).await.unwrap();
        let samples: Vec<_> = docker
            .stats(&id, Some(query::StatsOptions { stream: true, one_shot: false }))
            .take(2)
            .try_collect()
            .await
            .unwrap();
        assert_eq!(samples[1].memory_stats.as_ref().unwrap().limit, Some(32 << 20));
        assert_eq!(
            samples[1].precpu_stats.as_ref().unwrap().cpu_usage,
            samples[0].cpu_stats.as_ref().unwrap().cpu_usage
        );
        docker.pause_container(&id).await.unwrap();
        let paused = docker.inspect_container(&id, None).await.unwrap();
        assert_eq!(paused.state.unwrap().status, Some(ContainerStateStatusEnum::PAUSED));
        docker.unpause_container(&id).await.unwrap();
        let name = query::RenameContainerOptions { name: "renamed".to_owned() };
        docker.rename_container(&id, name).await.unwrap();
        docker.kill_container("renamed", None).await.unwrap();
        assert_eq!(waited(&docker, &id, "not-running").await, 137);
        remove(&docker, &id).await;
        assert_eq!(docker.prune_containers(None).await.unwrap().containers_deleted, None);
    });
}

#[test]
fn streams_go_both_ways() {
    with_client(async |docker| {
        let id = created(&docker, &["sh", "-c", "cat; echo done >&2"], |body| {
            body.open_stdin = Some(true);
            body.stdin_once = Some(true);
        })
        .await;
        let options = query::AttachContainerOptions {
            stream: true,
            stdin: true,
            stdout: true,
            stderr: true,
            ..Default::default()
        };
        let mut attached = docker.attach_container(&id, Some(options)).await.unwrap();
        docker.start_container(&id, None).await.unwrap();
        let data = "0123456789abcde\n".repeat(65536);
        let send = async {
            attached.input.write_all(data.as_bytes()).await.unwrap();
            attached.input.shutdown().await.unwrap();
        };
        let ((), (out, err)) = tokio::join!(send, both(attached.output));
        assert!(out == data, "{} bytes instead of {}", out.len(), data.len());
        assert_eq!((err.as_str(), waited(&docker, &id, "not-running").await), ("done\n", 0));
        remove(&docker, &id).await;

        let id = started(&docker, &["sleep", "1000"]).await;
        let exec = async |change: &dyn Fn(&mut ExecConfig)| {
            let mut config =
                ExecConfig { attach_stdout: Some(true), attach_stderr: Some(true), ..Default::default() };
            change(&mut config);
            docker.create_exec(&id, config).await.unwrap().id
        };
        let failing = exec(&|config| config.cmd = words(&["sh", "-c", "echo a; echo b >&2; exit 4"])).await;
        let StartExecResults::Attached { output, .. } = docker.start_exec(&failing, None).await.unwrap()
        else {
            panic!("was not attached")
        };
        assert_eq!(both(output).await, ("a\n".to_owned(), "b\n".to_owned()));
        let told = docker.inspect_exec(&failing).await.unwrap();
        assert_eq!(
            (told.exit_code, told.running, told.container_id),
            (Some(4), Some(false), Some(id.clone()))
        );
        let echo = exec(&|config| (config.cmd, config.attach_stdin) = (words(&["cat"]), Some(true))).await;
        let StartExecResults::Attached { output, mut input } = docker.start_exec(&echo, None).await.unwrap()
        else {
            panic!("was not attached")
        };
        input.write_all(b"half closed\n").await.unwrap();
        input.shutdown().await.unwrap();
        assert_eq!(both(output).await.0, "half closed\n");
        remove(&docker, &id).await;
    });
}

#[test]
fn files_go_both_ways() {
    with_client(async |docker| {
        let id = started(&docker, &["sleep", "1000"]).await;
        let archive = fixtures::tar(&[
            fixtures::Entry::file("a", "one\n"),
            fixtures::Entry::program("b", "#!/bin/sh\necho two\n"),
        ]);
        let options = query::UploadToContainerOptions { path: "/tmp".to_owned(), ..Default::default() };
        docker.upload_to_container(&id, Some(options), bollard::body_full(archive.into())).await.unwrap();
        let at = |path: &str| query::ContainerArchiveInfoOptions { path: path.to_owned() };
        let stat = docker.get_container_archive_info(&id, Some(at("/tmp/b"))).await.unwrap();
        assert_eq!((stat.name.as_str(), stat.size, stat.file_mode), ("b", 19, 0o755));
        refused(docker.get_container_archive_info(&id, Some(at("/nowhere"))).await.map(|_| ()), 404, "");
        let options = query::DownloadFromContainerOptions { path: "/tmp/a".to_owned() };
        let parts: Vec<_> = docker.download_from_container(&id, Some(options)).try_collect().await.unwrap();
        assert!(parts.concat().windows(4).any(|bytes| bytes == b"one\n"));
        let exported: Vec<_> = docker.export_container(&id).try_collect().await.unwrap();
        assert!(exported.concat().windows(8).any(|bytes| bytes == b"echo two"));
        let changes = docker.container_changes(&id).await.unwrap().expect("changes");
        let mut paths: Vec<_> = changes.iter().map(|change| change.path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["/tmp", "/tmp/a", "/tmp/b"]);
        remove(&docker, &id).await;
    });
}

#[test]
fn events_and_what_is_around_read() {
    with_client(async |docker| {
        let filters = HashMap::from([("label".to_owned(), vec!["told".to_owned()])]);
        let options = query::EventsOptions {
            filters: Some(filters),
            since: Some("0".to_owned()),
            ..Default::default()
        };
        let events = docker.events(Some(options));
        let volume = VolumeCreateRequest {
            name: Some("kept".to_owned()),
            labels: Some(map("a", "b")),
            ..Default::default()
        };
        assert_eq!(docker.create_volume(volume).await.unwrap().labels, map("a", "b"));
        let network = NetworkCreateRequest { name: "net".to_owned(), ..Default::default() };
        let network = docker.create_network(network).await.unwrap().id;
        let id = created(&docker, &["sleep", "1000"], |body| {
            body.labels = Some(map("told", "yes"));
            let port = PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: None };
            body.host_config = Some(HostConfig {
                network_mode: Some("net".to_owned()),
                binds: words(&["kept:/data:ro"]),
                port_bindings: Some(HashMap::from([("80/tcp".to_owned(), Some(vec![port]))])),
                ..Default::default()
            });
        })
        .await;
        docker.start_container(&id, None).await.unwrap();
        let seen = docker.inspect_container(&id, None).await.unwrap();
        let mounts = seen.mounts.unwrap();
        assert_eq!((mounts[0].name.as_deref(), mounts[0].rw), (Some("kept"), Some(false)));
        let settings = seen.network_settings.unwrap();
        let bound = settings.ports.unwrap()["80/tcp"].clone().expect("a port");
        assert!(bound[0].host_port.as_ref().unwrap().parse::<u16>().unwrap() > 0);
        assert_eq!(settings.networks.unwrap()["net"].network_id.as_deref(), Some(network.as_str()));
        let told = docker.inspect_network("net", None::<query::InspectNetworkOptions>).await.unwrap();
        assert_eq!(told.containers.unwrap().keys().collect::<Vec<_>>(), [&id]);
        let listed = docker.list_containers(None).await.unwrap();
        assert_eq!(listed[0].ports.as_ref().unwrap()[0].private_port, 80);
        refused(docker.remove_volume("kept", None::<query::RemoveVolumeOptions>).await, 409, "in use");
        let stop = query::StopContainerOptions { t: Some(0), signal: None };
        docker.stop_container(&id, Some(stop)).await.unwrap();
        remove(&docker, &id).await;
        docker.remove_network("net").await.unwrap();
        assert_eq!(
            docker.list_volumes(None::<query::ListVolumesOptions>).await.unwrap().volumes.unwrap().len(),
            1
        );
        docker.remove_volume("kept", None::<query::RemoveVolumeOptions>).await.unwrap();

        let lived: Vec<_> = tokio::time::timeout(PATIENCE, async {
            let mut heard = Vec::new();
            let mut events = std::pin::pin!(events);
            while heard.last().is_none_or(|action: &String| action != "destroy") {
                let event = events.next().await.expect("an event").expect("an event");
                assert_eq!(event.typ, Some(EventMessageTypeEnum::CONTAINER));
                assert_eq!(event.actor.unwrap().id.as_deref(), Some(id.as_str()));
                heard.push(event.action.expect("an action"));
            }
            heard
        })
        .await
        .expect("events");
        assert_eq!(lived, ["create", "start", "kill", "kill", "die", "stop", "destroy"]);
    });
}

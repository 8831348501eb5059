//! A builder that reads its context, and tells what is in it.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::SystemTime;

use build::output::{Directory, Export, Output, Written};
use build::progress::{Event, Stream, Teller, Vertex};
use build::request::{CONTEXT, Holds, Request, SharedSources, Task, Wanted};
use buildkit::{Builder, Built, Cached, Failure, Look, Prune, SharedBuilt, Told, Worker};
use oci::{Digest, Platform};
use tokio::sync::Semaphore;

/// What it does is said by lines of the Dockerfile: `FAIL`, `WAIT`, `SECRET name`.
#[derive(Debug)]
pub(crate) struct Double {
    waits: Semaphore,
    drops: Semaphore,
}

impl Double {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { waits: Semaphore::new(0), drops: Semaphore::new(0) })
    }

    /// Returns when a build waits.
    pub(crate) async fn waiting(&self) {
        self.waits.acquire().await.expect("the double builds").forget();
    }

    /// Returns when one that waited was dropped.
    pub(crate) async fn dropped(&self) {
        self.drops.acquire().await.expect("the double builds").forget();
    }
}

struct Dropped<'a>(&'a Double);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.drops.add_permits(1);
    }
}

/// Names and contents of a directory's files, sorted.
fn contents(dir: OwnedFd) -> String {
    let root = sys::path::Root::from_fd(dir);
    let mut names: Vec<_> =
        sys::fsx::list(&root).expect("the double builds").into_iter().map(|entry| entry.name).collect();
    names.sort();
    let read = |name: &std::ffi::OsString| {
        let mut text = String::new();
        root.open_regular(name)
            .expect("the double builds")
            .take(100)
            .read_to_string(&mut text)
            .expect("the double builds");
        format!("{}={text}\n", name.to_string_lossy())
    };
    names.iter().map(read).collect()
}

/// A result: the directory that was built from, or an archive of two pieces, of which the second may not come.
struct Done(SharedSources);

impl Built for Done {
    fn export<'a>(&'a self, export: &'a Export, _teller: Teller) -> Task<'a, Result<Told, Failure>> {
        Box::pin(async move {
            let mut told = Told::new();
            let failed = |error: build::request::SourceError| Failure { message: error.0, place: None };
            let client = self.0.client().expect("the double builds");
            for (number, output) in export.outputs.iter().enumerate() {
                match output {
                    Output::Image(image) => {
                        told.insert("containerimage.digest".into(), Digest::from_sha256([7; 32]).to_string());
                        let names: Vec<String> = image.names.iter().map(oci::Reference::familiar).collect();
                        told.insert("image.name".into(), names.join(","));
                    }
                    Output::Archive(archive) => {
                        let (sender, pieces) = tokio::sync::mpsc::channel(1);
                        let breaks =
                            archive.names.first().is_some_and(|name| name.familiar() == "breaks:latest");
                        tokio::spawn(async move {
                            let _ = sender.send(Ok(b"first ".to_vec())).await;
                            let last = if breaks {
                                Err(build::request::SourceError("it broke".to_owned()))
                            } else {
                                Ok(b"second".to_vec())
                            };
                            let _ = sender.send(last).await;
                        });
                        let about = std::collections::BTreeMap::from([("a".to_owned(), "b".to_owned())]);
                        client.archive(number, about, pieces).await.map_err(failed)?;
                    }
                    Output::Files(_) => {
                        let wanted = Wanted { paths: vec![], hidden: vec![] };
                        let files = self.0.context(CONTEXT, &wanted).await.map_err(failed)?.fd;
                        let written =
                            vec![Written { name: "note.json".to_owned(), content: vec![b'n'; 70_000] }];
                        let name = Some("linux_amd64".to_owned());
                        let one = Directory { name, files, written, changed_s: None };
                        client.files(number, vec![one]).await.map_err(failed)?;
                    }
                }
            }
            Ok(told)
        })
    }

    fn look(&self, look: Look) -> Task<'_, Result<(), Failure>> {
        Box::pin(async move {
            let wanted = Wanted { paths: vec![], hidden: vec![] };
            let files = self.0.context(CONTEXT, &wanted).await.expect("the double builds");
            let root = sys::path::Root::from_fd(files.fd);
            tokio::task::spawn_blocking(move || look(&root)).await.expect("the double looks");
            Ok(())
        })
    }
}

impl Builder for Double {
    fn gather(
        &self,
        request: Request,
        sources: SharedSources,
        _teller: Teller,
    ) -> Task<'_, Result<(Request, SharedSources), Failure>> {
        Box::pin(async move { Ok((request, sources)) })
    }

    fn build(
        &self,
        request: Request,
        sources: SharedSources,
        teller: Teller,
    ) -> Task<'_, Result<SharedBuilt, Failure>> {
        Box::pin(async move {
            let digest = Digest::from_sha256([7; 32]);
            let name = "[internal] load build context".to_owned();
            teller
                .send(Event::Vertex(Vertex { digest: digest.clone(), name, inputs: vec![] }))
                .await
                .expect("the double builds");
            let say = async |text: String| {
                let (vertex, at) = (digest.clone(), SystemTime::now());
                let event = Event::Log { vertex, stream: Stream::Stdout, bytes: text.into_bytes(), at };
                teller.send(event).await.expect("the double builds");
            };
            let hidden = request.ignore.map(|ignore| ignore.text.lines().map(str::to_owned).collect());
            let wanted = Wanted { paths: vec![], hidden: hidden.unwrap_or_default() };
            let context = sources.context(CONTEXT, &wanted).await;
            let context = context.map_err(|error| Failure { message: error.to_string(), place: None })?;
            if context.holds == Holds::Foreign {
                say("handed over
"
                .to_owned())
                .await;
            }
            say(contents(context.fd)).await;
            for line in request.dockerfile.text.lines() {
                match line.split_once(' ').unwrap_or((line, "")) {
                    ("FAIL", _) => return Err(Failure { message: "this one fails".to_owned(), place: None }),
                    ("WAIT", _) => {
                        let _dropped = Dropped(self);
                        self.waits.add_permits(1);
                        std::future::pending::<()>().await;
                    }
                    ("SECRET", name) => match sources.secret(name).await {
                        Err(error) => return Err(Failure { message: error.0, place: None }),
                        Ok(Some(secret)) => {
                            say(format!("{name} is {}\n", String::from_utf8_lossy(&secret))).await;
                        }
                        Ok(None) => say(format!("{name} is not there\n")).await,
                    },
                    _ => {}
                }
            }
            let arguments = request.arguments.iter().map(|(name, value)| format!("{name}={value}"));
            let labels = request.labels.iter().map(|(name, value)| format!("{name}={value}"));
            let all: Vec<_> = arguments.chain(labels).collect();
            if !all.is_empty() {
                say(format!("{}\n", all.join(" "))).await;
            }
            Ok(Arc::new(Done(sources)) as SharedBuilt)
        })
    }

    fn cached(&self) -> Task<'_, Result<Vec<Cached>, Failure>> {
        let entry =
            |id: &str| Cached { kind: "regular", id: id.to_owned(), bytes: 9, uses: 3, ..Cached::default() };
        Box::pin(async move { Ok(vec![entry("one"), entry("two")]) })
    }

    fn prune(&self, prune: Prune) -> Task<'_, Result<Vec<Cached>, Failure>> {
        Box::pin(async move {
            let all = self.cached().await?;
            Ok(all
                .into_iter()
                .filter(|entry| prune.only.as_ref().is_none_or(|only| only.contains(&entry.id)))
                .collect())
        })
    }

    fn worker(&self) -> Task<'_, Result<Worker, Failure>> {
        Box::pin(async {
            Ok(Worker { id: "double".to_owned(), platforms: vec![Platform::host()], ..Worker::default() })
        })
    }
}

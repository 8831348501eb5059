//! The graph of a build: what is to be done, on what, with a digest for each step that says both.

use std::collections::BTreeMap;

use oci::image::ImageConfig;
use oci::{Digest, Platform};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::dockerfile::mount::Mount;
use crate::progress::Line;
use crate::remote::Git;
use crate::request::Network;
use crate::text::Span;

/// What steps of this version mean: a change of what they do makes old results worthless.
const VERSION: &str = "corten.build.v1";

/// A step.
#[derive(Debug, Clone)]
pub struct Vertex {
    /// What is done.
    pub op: Op,
    /// To what: numbers of steps before it. The first is the files that are built on, for those that build on some.
    pub inputs: Vec<usize>,
    /// What is done and to what.
    pub digest: Digest,
    /// What it is called: `[builder 2/3] RUN make`.
    pub name: String,
    /// Whether it is run though the cache has it.
    pub no_cache: bool,
    /// The instruction that asks for it first.
    pub span: Span,
}

/// What a step does.
#[derive(Debug, Clone, Serialize)]
pub enum Op {
    /// The files of an image.
    Image {
        /// The digest of its manifest, which says all.
        manifest: Digest,
        /// Its name.
        name: String,
        /// The platform that was asked for.
        platform: Option<Platform>,
    },
    /// The files of a context.
    Local {
        /// The name that [`crate::request::Sources::context`] is asked by.
        name: String,
        /// What is wanted of it: patterns, as [`crate::request::Wanted`] has them. It does not decide what comes of other steps: what
        /// those have taken does.
        #[serde(skip)]
        wanted: Vec<String>,
    },
    /// No files.
    Scratch,
    /// A command.
    Exec(Box<Exec>),
    /// Files are copied. Inputs: what they are copied into, and, unless all are in the Dockerfile, where from.
    Copy(Box<Copy>),
    /// A directory is made.
    Directory(Directory),
}

/// A command.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Exec {
    /// The program and its arguments.
    pub arguments: Vec<String>,
    /// A file that is put where the first argument says: a script of the Dockerfile.
    pub script: Option<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// Variables that the command sees and that do not decide what comes of it: proxies.
    #[serde(skip)]
    pub passing: Vec<String>,
    /// Where it runs.
    pub directory: String,
    /// Who runs it.
    pub user: String,
    /// Its network.
    #[serde(serialize_with = "network")]
    pub network: Network,
    /// Whether it may do what containers may not.
    pub insecure: bool,
    /// What is mounted; each with the number of its input.
    pub mounts: Vec<Mounted>,
}

/// A mount of a command.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mounted {
    /// What is mounted.
    #[serde(serialize_with = "mount")]
    pub mount: Mount,
    /// The input that it is of, if it is of one.
    pub input: Option<usize>,
}

fn network<S: serde::Serializer>(network: &Network, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{network:?}"))
}

fn mount<S: serde::Serializer>(mount: &Mount, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{mount:?}"))
}

/// Files that are copied.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Copy {
    /// Patterns, relative to the root of where they are copied from.
    pub sources: Vec<String>,
    /// Addresses, for `ADD`.
    pub urls: Vec<String>,
    /// Repositories, for `ADD`.
    pub repositories: Vec<Repository>,
    /// Files of the Dockerfile: name and content.
    pub inline: Vec<(String, String)>,
    /// Where to, from the root; with a slash at its end where it is a directory in any case.
    pub destination: String,
    /// Whose they become: `user[:group]`.
    pub owner: Option<String>,
    /// Their modes.
    pub mode: Option<String>,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// Whether the directories above what is copied are copied with it, from the root or from `/./` on.
    pub parents: bool,
    /// Whether what is below is not looked at.
    pub link: bool,
    /// Whether archives are unpacked.
    pub unpack: bool,
    /// What the content of a URL has to be.
    pub checksum: Option<String>,
    /// Whether they come from the context, whose files belong to nobody in particular.
    pub context: bool,
}

/// A repository whose files are copied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Repository {
    /// Where it is, and what of it is meant.
    pub git: Git,
    /// Whether `.git` is copied.
    pub keep_git_dir: bool,
}

/// A directory that is to be there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Directory {
    /// Which, from the root.
    pub path: String,
    /// Whose it becomes, where it has to be made: `user[:group]`, or nobody's in particular.
    pub owner: String,
}

/// What is made of a Dockerfile for one platform.
#[derive(Debug, Clone)]
pub struct Graph {
    /// The steps, each behind its inputs.
    pub vertices: Vec<Vertex>,
    /// The instructions of what is built, in the order of the text.
    pub lines: Vec<Line>,
    /// The step that has the image's files.
    pub result: usize,
    /// The image's configuration, but for its layers.
    pub config: ImageConfig,
    /// For each entry of the configuration's history that this build adds, the step whose layer it is; none for those that change the
    /// configuration alone.
    pub history: Vec<Option<usize>>,
    /// The image that it is built on, if it is built on one: its manifest.
    pub base: Option<Digest>,
}

impl Graph {
    /// The steps that the result needs, itself included.
    pub fn needed(&self) -> Vec<bool> {
        let mut needed = vec![false; self.vertices.len()];
        if let Some(result) = needed.get_mut(self.result) {
            *result = true;
        }
        for at in (0..self.vertices.len()).rev() {
            if needed[at] {
                for input in &self.vertices[at].inputs {
                    needed[*input] = true;
                }
            }
        }
        needed
    }
}

/// Steps as they are gathered; equal ones are one.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    pub vertices: Vec<Vertex>,
    /// The instruction that asks for what is added.
    pub span: Span,
    known: BTreeMap<String, usize>,
}

impl Builder {
    /// Adds a step, unless it is there.
    pub fn add(&mut self, op: Op, inputs: Vec<usize>, name: String, no_cache: bool) -> usize {
        let digest = self.digest(&op, &inputs);
        let key = format!("{digest}{no_cache}");
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let at = self.vertices.len();
        self.known.insert(key, at);
        self.vertices.push(Vertex { op, inputs, digest, name, no_cache, span: self.span });
        at
    }

    fn digest(&self, op: &Op, inputs: &[usize]) -> Digest {
        let mut hasher = Sha256::new();
        hasher.update(of(op).as_str());
        for input in inputs {
            hasher.update(self.vertices[*input].digest.as_str());
        }
        Digest::from_sha256(hasher.finalize().into())
    }
}

/// The digest of what is done, whatever it is done to.
pub fn of(op: &Op) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(VERSION);
    // Our own types have no keys that are not strings, the only thing that cannot be written.
    hasher.update(serde_json::to_vec(op).unwrap_or_default());
    Digest::from_sha256(hasher.finalize().into())
}

//! What need not be made at all: a cache from elsewhere may have what came of a step, and not what the step is made of.
//!
//! A cache of the result's own steps (`mode=min`, `inline`) has no layers of other stages. So steps are known there, beside what they
//! were made of, by how that was made: of the image, the instructions and the files of contexts that lead to it. Whoever has the same
//! of all these knows what comes of the last step without having made the others.

use std::collections::HashMap;

use build::graph::{self, Graph, Op};
use build::progress::End;
use oci::Digest;
use storage::ImageLayer;

use super::Failed;
use super::cache::Made;
use super::solve::{Solver, identity, key};
use super::tell::Voice;
use crate::error::Result;

/// What is to be made, and what was found in caches from elsewhere.
#[derive(Debug)]
pub(super) struct Foreseen {
    /// The steps that have to be made, or found.
    pub needed: Vec<bool>,
    /// What came of steps, and what they are known by.
    pub found: HashMap<usize, (Digest, Made)>,
}

impl Foreseen {
    /// What a step waits for: of one that was found only what lies below.
    pub fn inputs<'a>(&self, graph: &'a Graph, at: usize) -> &'a [usize] {
        let inputs = graph.vertices[at].inputs.as_slice();
        if self.found.contains_key(&at) { &inputs[..inputs.len().min(1)] } else { inputs }
    }
}

/// What layers of an image are known by.
pub(super) fn known_of(layers: &[ImageLayer]) -> Digest {
    key(&["layers", identity(layers).as_str()])
}

/// What a step is known by: what it does, under which options, upon what, with what of other steps and of contexts.
pub(super) fn by_making(
    op: &Op,
    (own, options): (&Digest, &str),
    base: &Digest,
    others: &[Digest],
    content: Option<&Digest>,
) -> Digest {
    let nothing = key(&[]);
    let base = match op {
        // What is linked does not depend on what is below, but for the numbers of names.
        Op::Copy(copy) if copy.link && copy.owner.is_none() => &nothing,
        _ => base,
    };
    let mut parts = vec!["by making", own.as_str(), options, base.as_str()];
    parts.push(content.map_or("", Digest::as_str));
    parts.extend(others.iter().map(Digest::as_str));
    key(&parts)
}

impl Solver {
    /// Looks at what there is of the result in caches from elsewhere, from its end.
    pub(super) async fn foresee(&self) -> Result<&Foreseen, Failed> {
        let needed = self.graph.needed();
        let foreseen = if self.imports.is_empty() {
            Foreseen { needed, found: HashMap::new() }
        } else {
            self.find_ahead(&needed).await?
        };
        Ok(self.foreseen.get_or_init(|| foreseen))
    }

    async fn find_ahead(&self, all: &[bool]) -> Result<Foreseen, Failed> {
        let mut known = vec![None; all.len()];
        for at in (0..all.len()).filter(|at| all[*at]) {
            known[at] = self.known_ahead(at, &known).await?;
        }
        let mut foreseen = Foreseen { needed: vec![false; all.len()], found: HashMap::new() };
        foreseen.needed[self.graph.result] = true;
        for at in (0..all.len()).rev() {
            if !foreseen.needed[at] {
                continue;
            }
            let is_step = !self.graph.vertices[at].inputs.is_empty();
            if let Some(known) = known[at].as_ref().filter(|_| is_step)
                && let Some(made) = self.cached(at, Some(known)).await?
            {
                foreseen.found.insert(at, (known.clone(), made));
            }
            foreseen.inputs(&self.graph, at).iter().for_each(|input| foreseen.needed[*input] = true);
        }
        for at in (0..all.len()).filter(|at| all[*at] && !foreseen.needed[*at]) {
            let vertex = &self.graph.vertices[at];
            if !matches!(vertex.op, Op::Local { .. }) {
                let voice = Voice::new(self.teller.clone(), vertex.digest.clone());
                voice.started().await;
                voice.done(End::Cached).await;
            }
        }
        Ok(foreseen)
    }

    /// What a step will be known by, if that can be said before anything is made; its inputs come first.
    async fn known_ahead(&self, at: usize, known: &[Option<Digest>]) -> Result<Option<Digest>, Failed> {
        let vertex = &self.graph.vertices[at];
        match &vertex.op {
            Op::Scratch => return Ok(Some(known_of(&[]))),
            Op::Image { manifest, .. } => return Ok(Some(known_of(&self.layers_of(manifest)?))),
            Op::Local { .. } => return Ok(None),
            // What is at an address now is not known.
            Op::Copy(copy) if !copy.urls.is_empty() || !copy.repositories.is_empty() => return Ok(None),
            // It is to be made anew, and what is made of it with it.
            _ if vertex.no_cache => return Ok(None),
            Op::Exec(_) | Op::Copy(_) | Op::Directory(_) => {}
        }
        let Some((base, others)) = vertex.inputs.split_first() else { return Ok(None) };
        let Some(base) = &known[*base] else { return Ok(None) };
        let is_local = |input: &usize| matches!(self.graph.vertices[*input].op, Op::Local { .. });
        let mut content = None;
        let mut made = Vec::new();
        if others.iter().any(is_local) {
            // Of files and layers together one digest is told.
            if !others.iter().all(is_local) {
                return Ok(None);
            }
            let mut directories = Vec::new();
            for input in others {
                directories.push(self.make(*input, Vec::new()).await?);
            }
            // What is wrong with it the step itself tells, if it is needed.
            let Ok(work) = self.work(&vertex.op, &[], &directories).await else { return Ok(None) };
            let Ok((found, _)) = work.look(&self.cache.digests).await else { return Ok(None) };
            content = found;
        } else {
            for input in others {
                let Some(known) = &known[*input] else { return Ok(None) };
                made.push(known.clone());
            }
        }
        let (own, options) = (graph::of(&vertex.op), self.options(&vertex.op)?);
        Ok(Some(by_making(&vertex.op, (&own, &options), base, &made, content.as_ref())))
    }
}

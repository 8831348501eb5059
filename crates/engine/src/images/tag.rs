//! `POST /images/{name}/tag`.

use std::collections::BTreeMap;

use oci::Reference;

use super::{Images, find};
use crate::blocking;
use crate::error::{Error, Result};
use crate::events::Subject;

impl Images {
    /// Gives an image another name.
    pub async fn tag(&self, source: &str, repository: &str, tag: &str) -> Result<()> {
        let target = target(repository, tag)?;
        let (shared, source) = (self.shared.clone(), source.to_owned());
        blocking::run("tag an image", move || {
            let id = shared.store.durable_transaction(|tx| {
                let found = match find::find_in(tx, &source) {
                    Ok(found) => found,
                    Err(error) => return Ok(Err(error)),
                };
                tx.tag_image(&target.to_string(), found.image.id())?;
                Ok(Ok(found.image.id().clone()))
            })??;
            let attributes = BTreeMap::from([("name".to_owned(), target.familiar())]);
            shared.events.emit(Subject::Image, "tag", id.as_str(), attributes);
            Ok(())
        })
        .await
    }
}

fn target(repository: &str, tag: &str) -> Result<Reference> {
    let invalid = |e: oci::Error| Error::invalid(e.to_string());
    let reference = Reference::parse_named(repository).map_err(invalid)?;
    if reference.digest().is_some() {
        return Err(Error::invalid("refusing to create a tag with a digest reference"));
    }
    if reference.familiar_name() == "sha256" {
        return Err(Error::invalid("refusing to create an ambiguous tag using digest algorithm as name"));
    }
    if tag.is_empty() { Ok(reference.or_latest()) } else { reference.with_tag(tag).map_err(invalid) }
}

#[cfg(test)]
mod tests {
    use super::target;

    #[test]
    fn targets() {
        assert_eq!(target("a/b", "1").unwrap().to_string(), "docker.io/a/b:1");
        assert_eq!(target("x", "").unwrap().to_string(), "docker.io/library/x:latest");
        assert_eq!(target("x:2", "").unwrap().to_string(), "docker.io/library/x:2");
        for (repository, tag, words) in [
            ("X", "", "invalid reference format: repository name (library/X) must be lowercase"),
            ("sha256", "1", "refusing to create an ambiguous tag using digest algorithm as name"),
            ("x", "a b", "invalid tag format"),
        ] {
            assert_eq!(target(repository, tag).unwrap_err().to_string(), words);
        }
        let digest = format!("x@sha256:{}", "0".repeat(64));
        assert!(target(&digest, "").unwrap_err().to_string().contains("digest reference"));
    }
}

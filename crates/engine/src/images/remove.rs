//! `DELETE /images/{name}`: names are taken away; with the last of them the image goes.

use std::collections::BTreeMap;

use api::image::DeleteItem;
use oci::{Digest, Platform, Reference};
use storage::{Image, Tx};

use super::find::By;
use super::{Images, Shared, Use, find, identity};
use crate::blocking;
use crate::error::{Error, Result};
use crate::events::Subject;

/// What is to be done about an image.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Names that go.
    pub(super) untag: Vec<String>,
    /// Whether the image goes.
    pub(super) delete: bool,
}

impl Images {
    /// Takes a name away, or removes an image. `force` overrules what may be overruled.
    pub async fn remove(&self, name: &str, force: bool) -> Result<Vec<DeleteItem>> {
        let (shared, name) = (self.shared.clone(), name.to_owned());
        blocking::run("remove an image", move || shared.remove(&name, force)).await
    }
}

impl Images {
    /// Takes platforms away from an image, with what only they have; with the last of them the image goes.
    pub async fn remove_platforms(
        &self,
        name: &str,
        platforms: Vec<Platform>,
        force: bool,
    ) -> Result<Vec<DeleteItem>> {
        let (shared, name) = (self.shared.clone(), name.to_owned());
        blocking::run("remove platforms of an image", move || {
            shared.remove_platforms(&name, &platforms, force)
        })
        .await
    }
}

impl Shared {
    fn remove_platforms(&self, name: &str, platforms: &[Platform], force: bool) -> Result<Vec<DeleteItem>> {
        let uses = (self.uses)();
        self.store.make_way();
        let done = self.store.durable_transaction(|tx| {
            let planned = find::find_in(tx, name).and_then(|found| {
                let gone = manifests_of(&found.image, name, platforms, &uses, force)?;
                Ok((gone, found.image))
            });
            let (gone, image) = match planned {
                Ok(planned) => planned,
                Err(error) => return Ok(Err(error)),
            };
            let whole = gone.len() == image.image.manifests.len();
            let plan = Plan { untag: if whole { image.names } else { Vec::new() }, delete: whole };
            if whole {
                apply(tx, &plan, &image.image.id)?;
            } else {
                tx.remove_manifests(&image.image.id, &gone)?;
            }
            Ok(Ok((plan, image.image.id, gone)))
        })?;
        let (plan, id, gone) = done?;
        let mut items = self.announce(&plan, &id);
        let single = |digest: &&Digest| **digest != id;
        items.extend(
            gone.iter()
                .filter(single)
                .map(|digest| DeleteItem { deleted: digest.to_string(), ..Default::default() }),
        );
        self.store.gc()?;
        Ok(items)
    }

    fn remove(&self, name: &str, force: bool) -> Result<Vec<DeleteItem>> {
        let uses = (self.uses)();
        self.store.make_way();
        let done = self.store.durable_transaction(|tx| {
            let planned = find::find_in(tx, name).and_then(|found| {
                let users: Vec<&Use> =
                    uses.iter().filter(|user| user.image == found.image.id().as_str()).collect();
                Ok((plan(&found.image, &found.by, &users, force)?, found.image))
            });
            let (plan, image) = match planned {
                Ok(planned) => planned,
                Err(error) => return Ok(Err(error)),
            };
            apply(tx, &plan, image.id())?;
            Ok(Ok((plan, image.image.id)))
        })?;
        let (plan, id) = done?;
        let items = self.announce(&plan, &id);
        if plan.delete {
            self.store.gc()?;
        }
        Ok(items)
    }

    /// Tells everybody what was done.
    pub(super) fn announce(&self, plan: &Plan, id: &Digest) -> Vec<DeleteItem> {
        let mut items = Vec::new();
        for name in &plan.untag {
            let name = Reference::parse_named(name).map_or_else(|_| name.clone(), |name| name.familiar());
            let attributes = BTreeMap::from([("name".to_owned(), name.clone())]);
            self.events.emit(Subject::Image, "untag", id.as_str(), attributes);
            items.push(DeleteItem { untagged: name, ..Default::default() });
        }
        if plan.delete {
            let attributes = BTreeMap::from([("name".to_owned(), id.to_string())]);
            self.events.emit(Subject::Image, "delete", id.as_str(), attributes);
            items.push(DeleteItem { deleted: id.to_string(), ..Default::default() });
        }
        items
    }
}

/// Does what was planned.
pub(super) fn apply(tx: &Tx<'_>, plan: &Plan, id: &Digest) -> storage::Result<()> {
    for name in &plan.untag {
        tx.untag_image(name)?;
    }
    if plan.delete {
        tx.remove_image(id)?;
        identity::forget(tx, id)?;
    }
    Ok(())
}

/// The manifests of an image for these platforms, unless one is not there or in use.
fn manifests_of(
    image: &Image,
    name: &str,
    platforms: &[Platform],
    uses: &[Use],
    force: bool,
) -> Result<Vec<Digest>> {
    let mut gone = Vec::new();
    for platform in platforms {
        let manifest = find::choose(image, name, Some(platform))?;
        let mut users = uses.iter().filter(|user| user.manifest == manifest.digest.as_str());
        let word = |user: &Use| if user.running { "running" } else { "stopped" };
        let user = users.clone().find(|user| user.running).or_else(|| users.next());
        if let Some(user) = user.filter(|user| user.running || !force) {
            return Err(Error::conflict(format!(
                "conflict: unable to delete {} ({}) - image is being used by {} container {}",
                manifest.digest.short(),
                if user.running { "cannot be forced" } else { "must be forced" },
                word(user),
                user.container.chars().take(12).collect::<String>()
            )));
        }
        if !gone.contains(&manifest.digest) {
            gone.push(manifest.digest.clone());
        }
    }
    Ok(gone)
}

/// What removing an image means, or why it cannot be.
fn plan(image: &Image, by: &By, users: &[&Use], force: bool) -> Result<Plan> {
    let short = image.id().short();
    let conflict = |text: String| Err(Error::conflict(format!("conflict: unable to {text}")));
    let short_id = |user: &Use| user.container.chars().take(12).collect::<String>();
    match by {
        By::Name(reference) => {
            let (mut gone, mut stays): (Vec<String>, Vec<String>) =
                image.names.iter().cloned().partition(|name| means(reference, name));
            // Digests of the repository that no tag is left in go with the last tag: nobody gave them.
            let in_repository =
                |name: &String| means(&reference.name_only().with_digest(image.id().clone()), name);
            if stays.iter().all(|name| name.contains('@')) {
                let (also, others) = stays.into_iter().partition(in_repository);
                stays = others;
                gone.extend::<Vec<String>>(also);
            }
            if !stays.is_empty() {
                return Ok(Plan { untag: gone, delete: false });
            }
            match users {
                [] => Ok(Plan { untag: gone, delete: true }),
                [user, ..] if !force => conflict(format!(
                    "remove repository reference \"{}\" (must force) - container {} is using its referenced image {short}",
                    reference.familiar(),
                    short_id(user)
                )),
                users => Ok(Plan { untag: gone, delete: !users.iter().any(|user| user.running) }),
            }
        }
        By::Id => {
            if let Some(user) = users.iter().find(|user| user.running) {
                return conflict(format!(
                    "delete {short} (cannot be forced) - image is being used by running container {}",
                    short_id(user)
                ));
            }
            let tags = image.names.iter().filter(|name| !name.contains('@')).count();
            if tags > 1 && !force {
                return conflict(format!(
                    "delete {short} (must be forced) - image is referenced in multiple repositories"
                ));
            }
            if let (Some(user), false) = (users.first(), force) {
                return conflict(format!(
                    "delete {short} (must be forced) - image is being used by stopped container {}",
                    short_id(user)
                ));
            }
            Ok(Plan { untag: image.names.clone(), delete: true })
        }
    }
}

/// Whether a stored name is meant by what the user wrote: a digest means every name in its repository.
fn means(reference: &Reference, name: &str) -> bool {
    if reference.digest().is_none() {
        return reference.to_string() == name;
    }
    Reference::parse_named(name).is_ok_and(|known| known.repository() == reference.repository())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(names: &[&str]) -> Image {
        Image {
            image: storage::NewImage {
                id: Digest::from_sha256([7; 32]),
                media_type: String::new(),
                size: 1,
                manifests: Vec::new(),
                other_blobs: Vec::new(),
                parent: None,
            },
            names: names.iter().map(ToString::to_string).collect(),
            created_ns: 0,
            updated_ns: 0,
            content_bytes: 0,
            unpacked_bytes: 0,
        }
    }

    fn user(running: bool) -> Use {
        Use { image: String::new(), manifest: String::new(), container: "c".repeat(64), running }
    }

    fn named(text: &str) -> By {
        By::Name(Reference::parse_familiar(text).unwrap())
    }

    const ONE: &str = "docker.io/library/a:latest";
    const TWO: &str = "docker.io/library/b:1";

    #[test]
    fn the_last_name_takes_the_image_with_it() {
        let both = image(&[ONE, TWO]);
        let only_name = Plan { untag: vec![ONE.into()], delete: false };
        assert_eq!(plan(&both, &named("a"), &[&user(true)], false).unwrap(), only_name);
        let last = Plan { untag: vec![ONE.into()], delete: true };
        assert_eq!(plan(&image(&[ONE]), &named("a"), &[], false).unwrap(), last);
        let digest = format!("docker.io/library/a@{}", Digest::from_sha256([7; 32]));
        let tag_and_digest = image(&[ONE, &digest]);
        let all = Plan { untag: vec![ONE.into(), digest.clone()], delete: true };
        assert_eq!(plan(&tag_and_digest, &named("a"), &[], false).unwrap(), all);
        let by_digest = named(&format!("a@{}", Digest::from_sha256([7; 32])));
        assert_eq!(plan(&both, &by_digest, &[], false).unwrap(), only_name);
    }

    #[test]
    fn conflicts_are_said_in_dockers_words() {
        let words = |image: &Image, by: &By, users: &[&Use], force| {
            plan(image, by, users, force).unwrap_err().to_string()
        };
        let one = image(&[ONE]);
        assert_eq!(
            words(&one, &named("a"), &[&user(false)], false),
            "conflict: unable to remove repository reference \"a:latest\" (must force) - container cccccccccccc is using its \
             referenced image 070707070707"
        );
        assert_eq!(
            words(&one, &By::Id, &[&user(true)], true),
            "conflict: unable to delete 070707070707 (cannot be forced) - image is being used by running container cccccccccccc"
        );
        assert_eq!(
            words(&one, &By::Id, &[&user(false)], false),
            "conflict: unable to delete 070707070707 (must be forced) - image is being used by stopped container cccccccccccc"
        );
        assert_eq!(
            words(&image(&[ONE, TWO]), &By::Id, &[], false),
            "conflict: unable to delete 070707070707 (must be forced) - image is referenced in multiple repositories"
        );
    }

    #[test]
    fn force_leaves_what_runs() {
        let one = image(&[ONE]);
        assert!(!plan(&one, &named("a"), &[&user(true)], true).unwrap().delete);
        assert!(plan(&one, &named("a"), &[&user(false)], true).unwrap().delete);
        assert!(plan(&image(&[ONE, TWO]), &By::Id, &[&user(false)], true).unwrap().delete);
    }
}

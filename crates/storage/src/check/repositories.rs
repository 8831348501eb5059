//! What the registry serves, against itself and the blobs.

use super::files::names;
use super::tables::Rule;
use super::{Checked, Fault, Scene};
use crate::error::Result;

/// What is wrong with repositories.
pub(super) const RULES: &[Rule] = &[
    Rule {
        fault: Fault::Reference,
        sql: "SELECT 'repository ' || repository, digest FROM
              (SELECT repository, digest FROM repository_blobs UNION SELECT repository, digest FROM repository_manifests)
              WHERE NOT EXISTS (SELECT 1 FROM refs WHERE owner_kind = 'repository' AND owner = repository
                                AND kind = 'blob' AND target = digest)",
        detail: "has {}, and does not keep it",
    },
    Rule {
        fault: Fault::Reference,
        sql: "SELECT 'repository ' || owner, target FROM refs WHERE owner_kind = 'repository'
              AND NOT EXISTS (SELECT 1 FROM repository_blobs WHERE repository = owner AND digest = target)
              AND NOT EXISTS (SELECT 1 FROM repository_manifests WHERE repository = owner AND digest = target)",
        detail: "keeps {}, and does not have it",
    },
    Rule {
        fault: Fault::Reference,
        sql: "SELECT 'tag ' || repository || ':' || tag, digest FROM repository_tags AS one WHERE NOT EXISTS
              (SELECT 1 FROM repository_manifests AS other
               WHERE other.repository = one.repository AND other.digest = one.digest)",
        detail: "names the manifest {}, which is not there",
    },
    Rule {
        fault: Fault::Leak,
        sql: "SELECT DISTINCT 'repository ' || repository, manifest FROM repository_contents AS one WHERE NOT EXISTS
              (SELECT 1 FROM repository_manifests AS other
               WHERE other.repository = one.repository AND other.digest = one.manifest)",
        detail: "knows what the manifest {} needs, which is not there",
    },
];

/// Uploads whose file or row is missing: the next start removes the other.
pub(super) fn check(scene: &Scene<'_>, checked: &mut Checked) -> Result<()> {
    // While the store is open, one may be between the two.
    if scene.work.is_some() {
        return Ok(());
    }
    let rows: Vec<String> = scene.column("SELECT id FROM repository_uploads")?;
    let files = names(&scene.root.join("content/uploads"))?;
    for id in rows.iter().filter(|id| !files.contains(id)) {
        checked.found(Fault::Leftover, format!("upload {id}"), "has no file");
    }
    for name in files.iter().filter(|name| !rows.contains(name)) {
        checked.found(Fault::Leftover, format!("content/uploads/{name}"), "is no upload");
    }
    Ok(())
}

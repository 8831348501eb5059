//! Images: what was pulled or built, and the names it has.
//!
//! An image is called by the digest of its index or manifest exactly as it came. Sizes are kept with it, so that listing
//! looks at no file.

use std::collections::{BTreeSet, HashMap};

use oci::Digest;
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::content::Class;
use crate::error::{Error, Result};
use crate::layers::IMAGE_LAYERS_MAX;
use crate::store::now_ns;
use crate::transaction::{Resource, Tx};

const OWNER: &str = "image";

/// Digits of an identifier that may be typed: fewer mean too many images, and look like names.
const PREFIX_DIGITS_MAX: usize = 128;

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageLayer {
    /// The blob.
    pub digest: Digest,
    /// The blob's size.
    pub size: u64,
    /// The blob's media type.
    pub media_type: String,
    /// The digest of the uncompressed archive, by which the unpacked layer is called.
    pub diff_id: Digest,
}

/// What an image is on one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformManifest {
    /// The manifest.
    pub digest: Digest,
    /// The manifest's size.
    pub size: u64,
    /// The manifest's media type.
    pub media_type: String,
    /// The platform, in the form `os/architecture[/variant]`.
    pub platform: String,
    /// The configuration.
    pub config: Digest,
    /// The configuration's size.
    pub config_size: u64,
    /// The layers, the lowest first.
    pub layers: Vec<ImageLayer>,
}

impl PlatformManifest {
    /// The diff ids, the lowest first: what [`crate::Store::prepare_snapshot`] wants.
    pub fn diff_ids(&self) -> Vec<Digest> {
        self.layers.iter().map(|layer| layer.diff_id.clone()).collect()
    }

    /// Bytes of manifest, configuration and layers as blobs.
    pub fn content_size(&self) -> u64 {
        self.size + self.config_size + self.layers.iter().map(|layer| layer.size).sum::<u64>()
    }
}

/// An image to be put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewImage {
    /// The digest of the index or manifest that was asked for.
    pub id: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size.
    pub size: u64,
    /// The platforms that are here.
    pub manifests: Vec<PlatformManifest>,
    /// Blobs that belong to it besides those (attestations, nested indexes).
    #[serde(default)]
    pub other_blobs: Vec<Digest>,
    /// The image that it was built on, where known.
    #[serde(default)]
    pub parent: Option<Digest>,
}

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// What it is.
    pub image: NewImage,
    /// Its names: canonical references such as `docker.io/library/debian:12` and
    /// `docker.io/library/debian@sha256:…`, sorted.
    pub names: Vec<String>,
    /// When it came, in nanoseconds since 1970.
    pub created_ns: i64,
    /// When it or a name of it last changed, in nanoseconds since 1970.
    pub updated_ns: i64,
    /// Bytes of everything it consists of as blobs, each counted once.
    pub content_bytes: u64,
    /// Bytes that its unpacked layers occupy, each counted once.
    pub unpacked_bytes: u64,
}

impl Image {
    /// Its identifier.
    pub fn id(&self) -> &Digest {
        &self.image.id
    }

    /// What it is on the platform called so.
    pub fn on_platform(&self, platform: &str) -> Option<&PlatformManifest> {
        self.image.manifests.iter().find(|manifest| manifest.platform == platform)
    }
}

impl Tx<'_> {
    /// Puts an image. One with the same identifier is extended: platforms that it has stay.
    /// All blobs and layers must be here; the image keeps them.
    pub fn put_image(&self, image: &NewImage) -> Result<()> {
        let known = self.image(&image.id)?;
        let mut merged = image.clone();
        if let Some(known) = &known {
            let have: BTreeSet<&Digest> = image.manifests.iter().map(|manifest| &manifest.digest).collect();
            let stay = known.image.manifests.iter().filter(|manifest| !have.contains(&manifest.digest));
            merged.manifests.extend(stay.cloned());
            merged.other_blobs.extend(known.image.other_blobs.iter().cloned());
            merged.other_blobs.sort();
            merged.other_blobs.dedup();
            merged.parent = merged.parent.or_else(|| known.image.parent.clone());
        }
        self.write_image(&merged)
    }

    /// Writes an image's row, and makes it the keeper of what it consists of.
    fn write_image(&self, image: &NewImage) -> Result<()> {
        let resources = self.check_image(image)?;
        let json = serde_json::to_string(image).map_err(|source| Error::CorruptRecord {
            what: "image",
            id: image.id.to_string(),
            source,
        })?;
        self.sql
            .prepare_cached(
                "INSERT INTO images (id, json, created_ns, updated_ns) VALUES (?1, ?2, ?3, ?3)
                 ON CONFLICT (id) DO UPDATE SET json = ?2, updated_ns = ?3",
            )?
            .execute(params![image.id.as_str(), json, now_ns()])?;
        self.set_refs(OWNER, image.id.as_str(), &resources)
    }

    /// Everything the image consists of, which must be here and be one thing each.
    fn check_image(&self, image: &NewImage) -> Result<Vec<Resource>> {
        let mut blobs = vec![(&image.id, Class::of(&image.media_type))];
        let mut layers = Vec::new();
        for manifest in &image.manifests {
            if manifest.layers.len() > IMAGE_LAYERS_MAX {
                return Err(Error::Limit {
                    what: "number of layers of an image",
                    limit: IMAGE_LAYERS_MAX as u64,
                });
            }
            blobs.push((&manifest.digest, Class::of(&manifest.media_type)));
            blobs.push((&manifest.config, Class::Config));
            for layer in &manifest.layers {
                blobs.push((&layer.digest, Class::Layer));
                layers.push(&layer.diff_id);
            }
        }
        blobs.extend(image.other_blobs.iter().map(|digest| (digest, Class::Other)));
        let mut resources = Vec::new();
        for (digest, class) in blobs {
            self.check_class(digest, class)?;
            if self.blob_info(digest)?.is_none() {
                return Err(Error::not_found("blob", digest.as_str()));
            }
            resources.push(Resource::Blob(digest.clone()));
        }
        for diff_id in layers {
            if self.layer(diff_id)?.is_none() {
                return Err(Error::not_found("layer", diff_id.as_str()));
            }
            resources.push(Resource::Layer(diff_id.clone()));
        }
        Ok(resources)
    }

    /// Takes platforms away from an image; what it keeps of them is garbage then. Whether it had all of them.
    pub fn remove_manifests(&self, id: &Digest, gone: &[Digest]) -> Result<bool> {
        let Some(mut image) = self.image(id)?.map(|image| image.image) else { return Ok(false) };
        let before = image.manifests.len();
        image.manifests.retain(|manifest| !gone.contains(&manifest.digest));
        let all = image.manifests.len() + gone.len() == before;
        self.write_image(&image)?;
        Ok(all)
    }

    /// Gives an image a name; another image that had it loses it. Returns that one.
    pub fn tag_image(&self, name: &str, id: &Digest) -> Result<Option<Digest>> {
        if self.image(id)?.is_none() {
            return Err(Error::not_found("image", id.as_str()));
        }
        let before = self.image_id_by_name(name)?;
        let now = now_ns();
        self.sql
            .prepare_cached(
                "INSERT INTO names (name, image, updated_ns) VALUES (?1, ?2, ?3)
                 ON CONFLICT (name) DO UPDATE SET image = ?2, updated_ns = ?3",
            )?
            .execute(params![name, id.as_str(), now])?;
        self.sql
            .prepare_cached("UPDATE images SET updated_ns = ? WHERE id = ?")?
            .execute(params![now, id.as_str()])?;
        Ok(before.filter(|before| before != id))
    }

    /// Takes a name away; the image that had it, if one had.
    pub fn untag_image(&self, name: &str) -> Result<Option<Digest>> {
        let before = self.image_id_by_name(name)?;
        self.sql.prepare_cached("DELETE FROM names WHERE name = ?")?.execute([name])?;
        Ok(before)
    }

    /// Removes an image and its names; whether there was one. Its blobs and layers are garbage then, unless something else
    /// has them.
    pub fn remove_image(&self, id: &Digest) -> Result<bool> {
        self.sql.prepare_cached("DELETE FROM names WHERE image = ?")?.execute([id.as_str()])?;
        self.clear_refs(OWNER, id.as_str())?;
        Ok(self.sql.prepare_cached("DELETE FROM images WHERE id = ?")?.execute([id.as_str()])? > 0)
    }

    /// The identifier of the image with this name, a canonical reference.
    pub fn image_id_by_name(&self, name: &str) -> Result<Option<Digest>> {
        let id: Option<String> = self
            .sql
            .prepare_cached("SELECT image FROM names WHERE name = ?")?
            .query_row([name], |row| row.get(0))
            .optional()?;
        Ok(id.and_then(|id| Digest::parse(&id).ok()))
    }

    /// The image with this name, a canonical reference.
    pub fn image_by_name(&self, name: &str) -> Result<Option<Image>> {
        match self.image_id_by_name(name)? {
            Some(id) => self.image(&id),
            None => Ok(None),
        }
    }

    /// The image with this identifier.
    pub fn image(&self, id: &Digest) -> Result<Option<Image>> {
        let row = self
            .sql
            .prepare_cached("SELECT id, json, created_ns, updated_ns, content_bytes, unpacked_bytes FROM images WHERE id = ?")?
            .query_row([id.as_str()], Row::read)
            .optional()?;
        let Some(row) = row else { return Ok(None) };
        let mut statement =
            self.sql.prepare_cached("SELECT name FROM names WHERE image = ? ORDER BY name")?;
        let names = statement.query_map([id.as_str()], |row| row.get(0))?.collect::<Result<_, _>>()?;
        row.image(names).map(Some)
    }

    /// The image whose identifier begins with these hexadecimal digits (`sha256:` may stand before them). The identifiers of its
    /// platforms' manifests and configurations count too: those are what other engines call an image by.
    pub fn image_by_prefix(&self, prefix: &str) -> Result<Option<Image>> {
        let digits = prefix.strip_prefix("sha256:").unwrap_or(prefix);
        let hexadecimal = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if digits.is_empty() || digits.len() > PREFIX_DIGITS_MAX || !hexadecimal {
            return Ok(None);
        }
        let mut statement = self.sql.prepare_cached(
            "SELECT id FROM images WHERE id >= 'sha256:' || ?1 AND id < 'sha256:' || ?1 || 'g' LIMIT 2",
        )?;
        let mut ids = statement.query_map([digits], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        if ids.is_empty() {
            let mut statement = self.sql.prepare_cached(
                "SELECT DISTINCT image FROM parts
                 WHERE digest >= 'sha256:' || ?1 AND digest < 'sha256:' || ?1 || 'g' LIMIT 2",
            )?;
            ids = statement.query_map([digits], |row| row.get(0))?.collect::<Result<_, _>>()?;
        }
        match ids.as_slice() {
            [] => Ok(None),
            [id] => Digest::parse(id).map_or(Ok(None), |id| self.image(&id)),
            _ => Err(Error::Ambiguous { what: "image", id: prefix.to_owned() }),
        }
    }

    /// All images, the newest first.
    pub fn images(&self) -> Result<Vec<Image>> {
        let mut names: HashMap<String, Vec<String>> = HashMap::new();
        let mut statement = self.sql.prepare_cached("SELECT image, name FROM names ORDER BY name")?;
        for row in statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))? {
            let (image, name) = row?;
            names.entry(image).or_default().push(name);
        }
        self.images_of(
            "SELECT id, json, created_ns, updated_ns, content_bytes, unpacked_bytes FROM images
             ORDER BY created_ns DESC, id",
            |id| names.remove(id).unwrap_or_default(),
        )
    }

    /// The names of images that have this blob, sorted.
    pub fn names_with_blob(&self, digest: &Digest) -> Result<Vec<String>> {
        let mut statement = self.sql.prepare_cached(
            "SELECT DISTINCT name FROM names JOIN refs ON owner_kind = 'image' AND owner = image
             WHERE kind = 'blob' AND target = ? ORDER BY name",
        )?;
        Ok(statement.query_map([digest.as_str()], |row| row.get(0))?.collect::<Result<Vec<_>, _>>()?)
    }

    /// Images without a tag, the newest first: at most digests name them.
    pub fn dangling_images(&self) -> Result<Vec<Image>> {
        let mut statement =
            self.sql.prepare_cached("SELECT name FROM names WHERE image = ? ORDER BY name")?;
        let mut names = |id: &str| -> Result<Vec<String>> {
            Ok(statement.query_map([id], |row| row.get(0))?.collect::<Result<_, _>>()?)
        };
        let mut images = self.images_of(
            "SELECT id, json, created_ns, updated_ns, content_bytes, unpacked_bytes FROM images WHERE NOT EXISTS
             (SELECT 1 FROM names WHERE image = images.id AND instr(name, '@') = 0) ORDER BY created_ns DESC, id",
            |_| Vec::new(),
        )?;
        for image in &mut images {
            image.names = names(image.image.id.as_str())?;
        }
        Ok(images)
    }

    /// What a query of images' rows finds, with the names that `names` knows.
    fn images_of(&self, sql: &str, mut names: impl FnMut(&str) -> Vec<String>) -> Result<Vec<Image>> {
        let mut statement = self.sql.prepare_cached(sql)?;
        let rows = statement.query_map([], Row::read)?;
        rows.map(|row| {
            let row = row?;
            let names = names(&row.id);
            row.image(names)
        })
        .collect()
    }

    /// Bytes of what each image has in common with others, blobs and unpacked layers; those that share nothing are left out.
    pub fn shared_bytes(&self) -> Result<HashMap<Digest, u64>> {
        let mut statement = self.sql.prepare_cached(
            "SELECT owner, sum(bytes) FROM (
                 SELECT owner, size AS bytes FROM blobs JOIN refs ON kind = 'blob' AND target = digest
                 WHERE owner_kind = 'image' AND images > 1
                 UNION ALL
                 SELECT owner, disk_bytes AS bytes FROM layers JOIN refs ON kind = 'layer' AND target = diff_id
                 WHERE owner_kind = 'image' AND images > 1
             ) GROUP BY owner",
        )?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        let mut shared = HashMap::new();
        for row in rows {
            let (id, bytes) = row?;
            if let Ok(id) = Digest::parse(&id) {
                shared.insert(id, u64::try_from(bytes).unwrap_or(0));
            }
        }
        Ok(shared)
    }

    /// Bytes of what these images consist of, blobs and unpacked layers, each counted once.
    pub fn bytes_of_images<'d>(&self, ids: impl IntoIterator<Item = &'d Digest>) -> Result<u64> {
        let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
        let mut bytes = 0i64;
        let mut statement = self.sql.prepare_cached(
            "SELECT kind, target, coalesce(size, disk_bytes, 0) FROM refs
             LEFT JOIN blobs ON kind = 'blob' AND digest = target
             LEFT JOIN layers ON kind = 'layer' AND layers.diff_id = target
             WHERE owner_kind = 'image' AND owner = ?",
        )?;
        for id in ids {
            let rows = statement
                .query_map([id.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?)))?;
            for row in rows {
                let (kind, target, size) = row?;
                if seen.insert((kind, target)) {
                    bytes = bytes.saturating_add(size);
                }
            }
        }
        Ok(u64::try_from(bytes).unwrap_or(0))
    }
}

/// A row of the table.
struct Row {
    id: String,
    json: String,
    created_ns: i64,
    updated_ns: i64,
    content_bytes: i64,
    unpacked_bytes: i64,
}

impl Row {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            json: row.get(1)?,
            created_ns: row.get(2)?,
            updated_ns: row.get(3)?,
            content_bytes: row.get(4)?,
            unpacked_bytes: row.get(5)?,
        })
    }

    fn image(self, names: Vec<String>) -> Result<Image> {
        let image = serde_json::from_str(&self.json).map_err(|source| Error::CorruptRecord {
            what: "image",
            id: self.id,
            source,
        })?;
        Ok(Image {
            image,
            names,
            created_ns: self.created_ns,
            updated_ns: self.updated_ns,
            content_bytes: u64::try_from(self.content_bytes).unwrap_or(0),
            unpacked_bytes: u64::try_from(self.unpacked_bytes).unwrap_or(0),
        })
    }
}

//! What packages are in a result, as SPDX has it: those that the databases of dpkg, apk and RPM in its files know.

mod rpm;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sys::path::Root;

use super::super::result::{Built, Part};
use super::attest::Predicate;
use crate::containers::layered::Layered;
use crate::error::{Error, Result};

const SPDX: &str = "https://spdx.dev/Document";
/// Where the databases are.
const APK: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];
const DPKG: &str = "var/lib/dpkg/status";
/// Images without a package manager have a file for each package here.
const DPKG_PARTS: &str = "var/lib/dpkg/status.d";
/// The second was the first one's place, and may be a link to it: what a lower layer has of it is old then.
const RPM: [&str; 2] = ["usr/lib/sysimage/rpm", "var/lib/rpm"];
const RELEASE: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];
/// Bytes of a database: that of a large distribution has some ten megabytes.
const DATABASE_BYTES_MAX: u64 = 64 << 20;
const RELEASE_BYTES_MAX: u64 = 64 << 10;
/// Packages that are told of.
const PACKAGES_MAX: usize = 50_000;

/// A package.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    architecture: String,
    license: String,
    /// What goes before all versions that have a smaller one, with RPM.
    epoch: Option<u32>,
}

/// What a result has, read from the layers that it is stacked of.
struct Files(Vec<Root>);

impl Files {
    /// They as one tree: what a layer deletes of those below, or hides, is not there.
    fn layered(&self) -> io::Result<Layered> {
        let roots: io::Result<Vec<Root>> = self.0.iter().map(Root::try_clone).collect();
        Ok(Layered::of(roots?.into_iter().map(OwnedFd::from).collect()))
    }

    fn read(&self, path: &str, bytes_max: u64) -> Result<Option<Vec<u8>>> {
        let content = self.layered().and_then(|layers| layers.read(path, bytes_max));
        content.map_err(|error| Error::io("read", Path::new(path), error))
    }

    /// Names in a directory.
    fn names(&self, path: &str) -> Result<Vec<String>> {
        let names = self.layered().and_then(|layers| layers.list(path));
        let names = names.map_err(|error| Error::io("list", Path::new(path), error))?;
        Ok(names.iter().map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned()).collect())
    }
}

/// What packages are in a platform's result.
pub(super) fn predicate(built: &Built, part: &Part) -> Result<Predicate> {
    let store = &built.context.store;
    store.restore_layers(&part.layers)?;
    let open =
        |layer: &storage::ImageLayer| Ok(Root::from_fd(store.layer_directory(&built.lease, &layer.diff_id)?));
    let files = Files(part.layers.iter().rev().map(open).collect::<Result<_>>()?);
    let mut release = None;
    for path in RELEASE {
        release = match release {
            None => files.read(path, RELEASE_BYTES_MAX)?,
            found => found,
        };
    }
    let distribution = release.map(|text| distribution(&String::from_utf8_lossy(&text))).unwrap_or_default();
    let mut packages = Vec::new();
    for path in APK {
        if let Some(text) = files.read(path, DATABASE_BYTES_MAX)? {
            packages.extend(apk(&String::from_utf8_lossy(&text)).map(|one| ("apk", one)));
        }
    }
    if let Some(text) = files.read(DPKG, DATABASE_BYTES_MAX)? {
        packages.extend(dpkg(&String::from_utf8_lossy(&text)).map(|one| ("deb", one)));
    }
    for name in files.names(DPKG_PARTS)?.iter().filter(|name| !name.ends_with(".md5sums")) {
        if let Some(text) = files.read(&format!("{DPKG_PARTS}/{name}"), RELEASE_BYTES_MAX)? {
            packages.extend(dpkg(&String::from_utf8_lossy(&text)).map(|one| ("deb", one)));
        }
    }
    packages.extend(of_rpm(&files)?.into_iter().map(|one| ("rpm", one)));
    packages.sort();
    packages.dedup();
    if packages.len() > PACKAGES_MAX {
        return Err(Error::invalid(format!("an SBOM has {PACKAGES_MAX} packages at most")));
    }
    Ok(Predicate { name: "sbom.spdx.json", kind: SPDX, content: document(part, &distribution, &packages) })
}

/// The packages of RPM's database, if there is one.
fn of_rpm(files: &Files) -> Result<Vec<Package>> {
    for path in RPM {
        let names = files.names(path)?;
        if let Some(database) = files.read(&format!("{path}/{}", rpm::DATABASE), DATABASE_BYTES_MAX)? {
            let journal = files.read(&format!("{path}/{}", rpm::JOURNAL), DATABASE_BYTES_MAX)?;
            if journal.is_some_and(|journal| !journal.is_empty()) {
                return Err(Error::not_implemented(format!(
                    "an SBOM of packages of RPM with /{path}/{}: what is written there is not taken in yet; end the step with `rpm --rebuilddb`",
                    rpm::JOURNAL
                )));
            }
            return rpm::packages(database);
        }
        if let Some(name) = rpm::OLDER.iter().find(|name| names.iter().any(|one| one == *name)) {
            return Err(Error::not_implemented(format!(
                "an SBOM of packages of RPM in its older database (/{path}/{name}): only {} is read",
                rpm::DATABASE
            )));
        }
    }
    Ok(Vec::new())
}

/// What a distribution calls itself.
fn distribution(text: &str) -> String {
    let id = text.lines().find_map(|line| line.strip_prefix("ID="));
    id.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
}

/// The value of a field in a paragraph.
fn field<'a>(paragraph: &'a str, name: &str) -> Option<&'a str> {
    paragraph.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn dpkg(text: &str) -> impl Iterator<Item = Package> {
    text.split("\n\n").filter_map(|paragraph| {
        // What was removed and has left its configuration is no package any more.
        let status = field(paragraph, "Status:");
        if status.is_some_and(|status| !status.ends_with(" installed")) {
            return None;
        }
        Some(Package {
            name: field(paragraph, "Package:")?.to_owned(),
            version: field(paragraph, "Version:")?.to_owned(),
            architecture: field(paragraph, "Architecture:").unwrap_or_default().to_owned(),
            ..Package::default()
        })
    })
}

fn apk(text: &str) -> impl Iterator<Item = Package> {
    text.split("\n\n").filter_map(|paragraph| {
        Some(Package {
            name: field(paragraph, "P:")?.to_owned(),
            version: field(paragraph, "V:")?.to_owned(),
            architecture: field(paragraph, "A:").unwrap_or_default().to_owned(),
            license: field(paragraph, "L:").unwrap_or_default().to_owned(),
            epoch: None,
        })
    })
}

/// A part of a package's URL.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

fn document(part: &Part, distribution: &str, packages: &[(&str, Package)]) -> Value {
    let known = |text: &str| if text.is_empty() { "NOASSERTION".to_owned() } else { text.to_owned() };
    let listed: Vec<Value> = packages
        .iter()
        .enumerate()
        .map(|(number, (kind, package))| {
            let Package { name, version, architecture, license, epoch } = package;
            let place =
                if distribution.is_empty() { String::new() } else { format!("{}/", escaped(distribution)) };
            let url = format!(
                "pkg:{kind}/{place}{}@{}?arch={}{}",
                escaped(name),
                escaped(version),
                escaped(architecture),
                epoch.map(|epoch| format!("&epoch={epoch}")).unwrap_or_default()
            );
            let version = epoch.map_or_else(|| version.clone(), |epoch| format!("{epoch}:{version}"));
            json!({
                "SPDXID": format!("SPDXRef-Package-{kind}-{number}"),
                "name": name,
                "versionInfo": version,
                "downloadLocation": "NOASSERTION",
                "filesAnalyzed": false,
                "licenseConcluded": "NOASSERTION",
                // What apk calls a license need not be an expression of SPDX.
                "licenseDeclared": "NOASSERTION",
                "licenseComments": known(license),
                "copyrightText": "NOASSERTION",
                "supplier": "NOASSERTION",
                "externalRefs": [{
                    "referenceCategory": "PACKAGE-MANAGER",
                    "referenceType": "purl",
                    "referenceLocator": url,
                }],
            })
        })
        .collect();
    let described: Vec<Value> = listed
        .iter()
        .map(|package| {
            json!({
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": package["SPDXID"],
            })
        })
        .collect();
    let identity = part.config.rootfs.diff_ids.iter().fold(Sha256::new(), |mut hasher, digest| {
        hasher.update(digest.as_str());
        hasher
    });
    let identity = hex::encode(identity.finalize());
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("image-{}", &identity[..12]),
        "documentNamespace": format!("https://spdx.org/spdxdocs/corten-{identity}"),
        "creationInfo": {
            "created": part.config.created,
            "creators": [concat!("Tool: corten-", env!("CARGO_PKG_VERSION"))],
        },
        "packages": listed,
        "relationships": described,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_read() {
        let text = "Package: a\nStatus: install ok installed\nVersion: 1:2+b\nArchitecture: amd64\n\n\
                    Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
                    Package: part\nVersion: 3\n\n\nnothing\n";
        let names: Vec<_> = dpkg(text).map(|one| format!("{} {}", one.name, one.version)).collect();
        assert_eq!(names, ["a 1:2+b", "part 3"]);
        let text = "C:Q1\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\n\nP:x\n\n";
        let all: Vec<_> = apk(text).collect();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].name.as_str(), all[0].license.as_str()), ("musl", "MIT"));
        assert_eq!(distribution("NAME=x\nID=\"debian\"\n"), "debian");
        assert_eq!(escaped("1:2+b"), "1%3A2%2Bb");
    }
}

//! `GET /distribution/{name}/json`: what a name leads to at its registry, without taking it here.

use api::image::DistributionInspect;
use oci::Reference;
use oci::image::{Document, ImageConfig};
use registry::Credentials;

use super::{Images, show};
use crate::error::{Error, Kind, Result};

impl Images {
    /// Asks the registry what a name leads to.
    pub async fn distribution(
        &self,
        reference: &Reference,
        credentials: Credentials,
    ) -> Result<DistributionInspect> {
        let asked = self.ask_registry(reference, credentials).await;
        asked.map_err(|error| match &error {
            registry::Error::AccessDenied { .. } | registry::Error::Unauthorized { .. } => {
                Error::new(Kind::Unauthorized, error.to_string())
            }
            _ => error.into(),
        })
    }

    async fn ask_registry(
        &self,
        reference: &Reference,
        credentials: Credentials,
    ) -> std::result::Result<DistributionInspect, registry::Error> {
        let repository = self.client.repository(reference, credentials).await?;
        let resolved = repository.resolve(reference.target()).await?;
        let platforms = match &resolved.document {
            Document::Index(index) => index
                .manifests
                .iter()
                .filter_map(|entry| entry.platform.as_ref())
                .map(show::platform)
                .collect(),
            Document::Manifest(manifest) => {
                let config = ImageConfig::parse(&repository.small_blob(&manifest.config).await?)?;
                let platform = config.platform();
                let known = !platform.os.is_empty() || !platform.architecture.is_empty();
                known.then(|| show::platform(&platform)).into_iter().collect()
            }
        };
        Ok(DistributionInspect { descriptor: show::full_descriptor(&resolved.descriptor), platforms })
    }
}

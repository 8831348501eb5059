//! `POST /auth` and `GET /images/search`: what registries are asked that is not about an image here.

use api::Filters;
use api::image::SearchResult;
use api::system::AuthResponse;
use oci::reference::DEFAULT_DOMAIN;
use registry::Credentials;

use super::Images;
use crate::error::{Error, Kind, Result};

/// The filters of the search.
const FILTERS: &[&str] = &["is-automated", "is-official", "stars"];
/// How many repositories are looked for where nobody says, and at most: Docker's numbers.
const LIMIT_DEFAULT: usize = 25;
const LIMIT_MAX: usize = 100;

impl Images {
    /// Whether a registry (an address as `login` takes it; nothing is Docker Hub) knows these credentials. A token that it gives
    /// is to be kept in place of the password.
    pub async fn login(&self, server: &str, credentials: &Credentials) -> Result<AuthResponse> {
        let refused = |error: registry::Error| {
            let refused = matches!(error, registry::Error::Unauthorized { .. });
            let error = Error::from(error);
            // Docker's command line asks again for a password where it hears that the one it had is wrong.
            if refused { Error::new(Kind::Unauthorized, error.to_string()) } else { error }
        };
        let token = self.client.login(&registry_of(server), credentials).await.map_err(refused)?;
        Ok(AuthResponse { status: "Login Succeeded".to_owned(), identity_token: token.unwrap_or_default() })
    }

    /// Looks for repositories in Docker Hub, or in the registry that the term begins with. `limit` is at most 100; none or 0 means 25.
    pub async fn search(
        &self,
        term: &str,
        limit: Option<usize>,
        filters: &Filters,
        credentials: &Credentials,
    ) -> Result<Vec<SearchResult>> {
        let limit = limit.filter(|limit| *limit > 0).unwrap_or(LIMIT_DEFAULT);
        if limit > LIMIT_MAX {
            return Err(Error::invalid(format!("limit {limit} is outside the range of [1, {LIMIT_MAX}]")));
        }
        filters.validate(FILTERS).map_err(invalid)?;
        let wanted = Wanted::read(filters)?;
        let found = self.client.search(term, limit, credentials).await?;
        let found = found.into_iter().filter(|found| wanted.takes(found));
        Ok(found
            .map(|found| SearchResult {
                star_count: found.star_count,
                is_official: found.is_official,
                is_automated: found.is_automated,
                name: found.name,
                description: found.description,
            })
            .collect())
    }
}

fn invalid(error: api::Error) -> Error {
    Error::invalid(error.to_string())
}

/// What is left of a search.
struct Wanted {
    official: Option<bool>,
    automated: Option<bool>,
    stars: i64,
}

impl Wanted {
    fn read(filters: &Filters) -> Result<Self> {
        let mut stars = 0;
        for text in filters.get("stars") {
            let number: i64 =
                text.parse().map_err(|_| Error::invalid(format!("invalid filter 'stars=[{text}]'")))?;
            stars = stars.max(number);
        }
        let flag = |name: &str| filters.flag(name).map_err(invalid);
        Ok(Self { official: flag("is-official")?, automated: flag("is-automated")?, stars })
    }

    fn takes(&self, found: &registry::client::Found) -> bool {
        self.official.is_none_or(|official| official == found.is_official)
            && self.automated.is_none_or(|automated| automated == found.is_automated)
            && found.star_count >= self.stars
    }
}

/// The registry that an address means: `https://host/v1/`, `host:port`, nothing.
fn registry_of(server: &str) -> String {
    let server = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    match server.split('/').next().unwrap_or_default() {
        "" | "index.docker.io" | "registry-1.docker.io" => DEFAULT_DOMAIN.to_owned(),
        host => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::registry_of;

    #[test]
    fn addresses_are_registries() {
        assert_eq!(registry_of("https://index.docker.io/v1/"), "docker.io");
        assert_eq!(registry_of(""), "docker.io");
        assert_eq!(registry_of("https://r.example:5/v2/"), "r.example:5");
        assert_eq!(registry_of("r.example"), "r.example");
    }
}

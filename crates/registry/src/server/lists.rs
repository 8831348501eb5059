//! Lists: repositories, tags, and what is said about a manifest. All come in pages.

use hyper::header::{HeaderName, HeaderValue, LINK};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::blobs::digest;
use super::body::{self, Body};
use super::refusal::Refusal;
use super::{Answer, Call, Query};

/// How many entries a page has where the client does not say, and at most.
const PAGE: usize = 1000;
const PAGE_MAX: usize = 10_000;
/// A page of referrers is an index, and as an index no larger than manifests may be.
const REFERRERS_BYTES_MAX: usize = 4 << 20;
const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// How many entries are wanted; zero is a number too.
fn count(query: &Query) -> Result<usize, Refusal> {
    let Some(text) = query.get("n").filter(|text| !text.is_empty()) else { return Ok(PAGE) };
    let number: Option<usize> = text.parse().ok();
    let wrong = || {
        Refusal::bad("PAGINATION_NUMBER_INVALID", "invalid number of results requested")
            .about(json!({ "n": text }))
    };
    Ok(number.ok_or_else(wrong)?.min(PAGE_MAX))
}

/// Cuts a list that has one entry too many, and says where the next page begins.
fn page(response: &mut Response<Body>, path: &str, more: Option<(usize, &str, &str)>) {
    let Some((count, last, rest)) = more else { return };
    let last: String = url::form_urlencoded::byte_serialize(last.as_bytes()).collect();
    if let Ok(link) = HeaderValue::from_str(&format!("<{path}?last={last}&n={count}{rest}>; rel=\"next\"")) {
        response.headers_mut().insert(LINK, link);
    }
}

fn list(
    path: &str,
    count: usize,
    mut entries: Vec<String>,
    document: impl FnOnce(&[String]) -> Value,
) -> Answer {
    let more = entries.len() > count;
    entries.truncate(count);
    let mut response = body::json(StatusCode::OK, document(&entries).to_string().into_bytes());
    let last = entries.last().filter(|_| more);
    page(&mut response, path, last.map(|last| (count, last.as_str(), "")));
    Ok(response)
}

impl Call<'_> {
    pub(super) async fn catalog(&self, query: &Query) -> Answer {
        let (count, last) = (count(query)?, query.get("last").unwrap_or("").to_owned());
        let names = self
            .server
            .blocking(move |store| store.transaction(|tx| tx.repositories(&last, count.saturating_add(1))))
            .await?;
        list("/v2/_catalog", count, names, |names| json!({ "repositories": names }))
    }

    pub(super) async fn tags(&self, repository: String, query: &Query) -> Answer {
        let (count, last) = (count(query)?, query.get("last").unwrap_or("").to_owned());
        if self.server.upstream.is_some()
            && let Some(tags) = self.upstream_tags(&repository).await?
        {
            let after = tags.into_iter().filter(|tag| *tag > last).take(count + 1).collect();
            let path = format!("/v2/{repository}/tags/list");
            return list(&path, count, after, |tags| json!({ "name": repository, "tags": tags }));
        }
        let name = repository.clone();
        let tags = self
            .server
            .blocking(move |store| {
                store.transaction(|tx| {
                    if !tx.has_repository(&name)? {
                        return Ok(None);
                    }
                    tx.tags(&name, &last, count.saturating_add(1)).map(Some)
                })
            })
            .await?;
        let tags = tags.ok_or_else(|| Refusal::name_unknown(&repository))?;
        let path = format!("/v2/{repository}/tags/list");
        list(&path, count, tags, |tags| json!({ "name": repository, "tags": tags }))
    }

    pub(super) async fn referrers(&self, repository: String, subject: &str, query: &Query) -> Answer {
        let subject = digest(subject)?;
        let (count, last) = (count(query)?.max(1), query.get("last").unwrap_or("").to_owned());
        let wanted = query.get("artifactType").filter(|wanted| !wanted.is_empty()).map(str::to_owned);
        let (name, digest, filter) = (repository.clone(), subject.clone(), wanted.clone());
        let referrers = self
            .server
            .blocking(move |store| {
                let limits = (count, REFERRERS_BYTES_MAX);
                store.transaction(|tx| tx.referrers(&name, &digest, filter.as_deref(), &last, limits))
            })
            .await?;
        let (mut manifests, mut size, mut more) = (Vec::new(), 0, None);
        for referrer in &referrers {
            let kept = &referrer.manifest;
            let mut entry =
                json!({ "mediaType": kept.media_type, "digest": kept.digest.as_str(), "size": kept.size });
            if !referrer.artifact_type.is_empty() {
                entry["artifactType"] = json!(referrer.artifact_type);
            }
            if !referrer.annotations.is_empty() {
                entry["annotations"] = json!(referrer.annotations);
            }
            size += entry.to_string().len() + 1;
            if manifests.len() == count || (size > REFERRERS_BYTES_MAX && !manifests.is_empty()) {
                more = Some(manifests.len() - 1);
                break;
            }
            manifests.push(entry);
        }
        let document = json!({
            "schemaVersion": 2, "mediaType": oci::image::media_type::OCI_INDEX, "manifests": manifests,
        });
        let index = oci::image::media_type::OCI_INDEX;
        let mut response = body::document_of(index, StatusCode::OK, document.to_string().into_bytes());
        let rest = wanted.as_ref().map_or_else(String::new, |wanted| {
            let wanted: String = url::form_urlencoded::byte_serialize(wanted.as_bytes()).collect();
            format!("&artifactType={wanted}")
        });
        let path = format!("/v2/{repository}/referrers/{subject}");
        let last = more.map(|at| referrers[at].manifest.digest.as_str());
        page(&mut response, &path, last.map(|last| (count, last, rest.as_str())));
        if wanted.is_some() {
            response.headers_mut().insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
        }
        Ok(response)
    }
}

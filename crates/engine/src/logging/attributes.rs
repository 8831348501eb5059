//! What a container's lines carry besides their text.

use std::collections::BTreeMap;

use super::options::Driver;
use super::pattern::Pattern;
use super::tag::{Subject, Template};
use crate::containers::record::Record;
use crate::error::Result;

/// What a tag can be made of.
pub fn subject(record: &Record, hostname: &str) -> Subject {
    Subject {
        id: record.id.clone(),
        name: record.name.clone(),
        image_id: record.image.id.clone(),
        image_name: record.image.name.clone(),
        command: record.args.join(" "),
        hostname: hostname.to_owned(),
        labels: record.config.labels.clone(),
    }
}

/// The labels and variables that were asked for, and for files the tag if there is one.
pub fn attributes(record: &Record, hostname: &str) -> Result<BTreeMap<String, String>> {
    let config = &record.host.log_config.config;
    let names = |key: &str| config.get(key).into_iter().flat_map(|list| list.split(',')).map(str::trim);
    let pattern = |key: &str| match config.get(key).filter(|text| !text.is_empty()) {
        Some(text) => Pattern::parse(text).map(Some),
        None => Ok(None),
    };
    let labels = &record.config.labels;
    let mut attributes = BTreeMap::new();
    for name in names("labels") {
        if let Some(value) = labels.get(name) {
            attributes.insert(name.to_owned(), value.clone());
        }
    }
    if let Some(pattern) = pattern("labels-regex")? {
        attributes.extend(
            labels.iter().filter(|(name, _)| pattern.matches(name)).map(|(k, v)| (k.clone(), v.clone())),
        );
    }
    let variables = || record.config.env.iter().filter_map(|entry| entry.split_once('='));
    for wanted in names("env") {
        if let Some((name, value)) = variables().find(|(name, _)| *name == wanted) {
            attributes.insert(name.to_owned(), value.to_owned());
        }
    }
    if let Some(pattern) = pattern("env-regex")? {
        let found = variables().filter(|(name, _)| pattern.matches(name));
        attributes.extend(found.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    if Driver::parse(&record.host.log_config.driver)? == Driver::JsonFile
        && let Some(tag) = config.get("tag").filter(|tag| !tag.is_empty())
    {
        attributes.insert("tag".to_owned(), Template::parse(tag)?.render(&subject(record, hostname)));
    }
    Ok(attributes)
}

//! What runs in a container: the request over the image's own configuration.

use std::collections::{HashMap, HashSet};

use api::container::{Config, Unit};
use oci::image::ContainerConfig;

use crate::error::{Error, Result};

/// The request's configuration with what it leaves to the image filled in.
pub fn over_image(asked: Config, image: &ContainerConfig) -> Config {
    let mut config = asked;
    // A program of its own makes the image's arguments meaningless; an empty list of arguments takes the image's.
    let own_entrypoint = config.entrypoint.is_some();
    if config.entrypoint.as_deref() == Some(&[String::new()]) {
        config.entrypoint = Some(Vec::new());
    }
    if !own_entrypoint {
        config.entrypoint.clone_from(&image.entrypoint);
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            config.cmd.clone_from(&image.cmd);
        }
    }
    for (field, default) in [
        (&mut config.user, &image.user),
        (&mut config.working_dir, &image.working_dir),
        (&mut config.stop_signal, &image.stop_signal),
    ] {
        if field.is_empty() {
            field.clone_from(default);
        }
    }
    config.env = of_image(&image.env, &config.env);
    for port in image.exposed_ports.keys() {
        config.exposed_ports.entry(port.clone()).or_insert(Unit {});
    }
    for path in image.volumes.keys() {
        config.volumes.entry(path.clone()).or_insert(Unit {});
    }
    for (key, value) in &image.labels {
        config.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    if config.shell.is_empty() {
        config.shell = image.shell.clone().unwrap_or_default();
    }
    if config.stop_timeout.is_none() {
        config.stop_timeout = image.stop_timeout;
    }
    if let Some(check) = &image.healthcheck {
        // What is not said of the check is as the image says.
        let own = config.healthcheck.get_or_insert_default();
        if own.test.is_empty() {
            own.test.clone_from(&check.test);
        }
        for (own, images) in [
            (&mut own.interval, check.interval),
            (&mut own.timeout, check.timeout),
            (&mut own.start_period, check.start_period),
            (&mut own.start_interval, check.start_interval),
            (&mut own.retries, check.retries),
        ] {
            if *own == 0 {
                *own = images;
            }
        }
    }
    config
}

/// The program and its arguments.
pub fn arguments(config: &Config) -> Result<Vec<String>> {
    let args: Vec<String> =
        config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten()).cloned().collect();
    match args.first() {
        None => Err(Error::invalid("no command specified")),
        Some(_) => Ok(args),
    }
}

/// A container's own entries, and after them those of its image that it does not replace: the order that `inspect` shows.
fn of_image(image: &[String], own: &[String]) -> Vec<String> {
    let name = |entry: &'_ str| entry.find('=').unwrap_or(entry.len());
    let named: HashSet<&str> = own.iter().map(|entry| &entry[..name(entry)]).collect();
    let rest = environment(image, &[]).into_iter().filter(|entry| !named.contains(&entry[..name(entry)]));
    environment(&[], own).into_iter().chain(rest).collect()
}

/// `over` replaces entries of `base` by name; a name without `=` takes the entry away. Images may have very many.
pub fn environment(base: &[String], over: &[String]) -> Vec<String> {
    let mut merged: Vec<Option<&str>> = Vec::with_capacity(base.len() + over.len());
    let mut places: HashMap<&str, usize> = HashMap::new();
    let name = |entry: &'_ str| entry.find('=').unwrap_or(entry.len());
    for entry in base {
        places.entry(&entry[..name(entry)]).or_insert(merged.len());
        merged.push(Some(entry));
    }
    for entry in over {
        let key = &entry[..name(entry)];
        if key.len() < entry.len() {
            let place = *places.entry(key).or_insert(merged.len());
            if place == merged.len() { merged.push(Some(entry)) } else { merged[place] = Some(entry) }
        } else if let Some(place) = places.remove(key) {
            merged[place] = None;
        }
    }
    merged.into_iter().flatten().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn an_environment_of_very_many_is_merged_at_once() {
        let many: Vec<String> = (0..200_000).map(|number| format!("A{number}=x")).collect();
        let started = std::time::Instant::now();
        let merged = environment(&many, &many);
        assert_eq!(merged, many);
        assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
        assert_eq!(environment(&words("A=1 B=2 A=3"), &words("A C=4 A=5")), words("B=2 A=3 C=4 A=5"));
    }

    fn image() -> ContainerConfig {
        ContainerConfig {
            entrypoint: Some(words("/entry")),
            cmd: Some(words("serve --all")),
            env: words("PATH=/bin A=1"),
            user: "app".into(),
            working_dir: "/srv".into(),
            ..Default::default()
        }
    }

    #[test]
    fn arguments_replace_the_images_arguments_and_a_program_both() {
        let run = |asked: Config| arguments(&over_image(asked, &image())).unwrap().join(" ");
        assert_eq!(run(Config::default()), "/entry serve --all");
        assert_eq!(run(Config { cmd: Some(words("x")), ..Default::default() }), "/entry x");
        assert_eq!(run(Config { entrypoint: Some(words("sh")), ..Default::default() }), "sh");
        let reset =
            Config { entrypoint: Some(vec![String::new()]), cmd: Some(words("ls")), ..Default::default() };
        assert_eq!(run(reset), "ls");
        let none =
            over_image(Config { entrypoint: Some(vec![String::new()]), ..Default::default() }, &image());
        assert_eq!(arguments(&none).unwrap_err().to_string(), "no command specified");
    }

    #[test]
    fn the_environment_is_replaced_by_name() {
        assert_eq!(
            environment(&words("PATH=/bin A=1 B=2"), &words("A=3 C=4 B Z")),
            words("PATH=/bin A=3 C=4")
        );
        let merged = over_image(Config { env: words("A=2"), ..Default::default() }, &image());
        assert_eq!(merged.env, words("A=2 PATH=/bin"));
        let gone = over_image(Config { env: words("B=1 PATH"), ..Default::default() }, &image());
        assert_eq!(gone.env, words("B=1 A=1"));
        assert_eq!((merged.user.as_str(), merged.working_dir.as_str()), ("app", "/srv"));
    }
}

//! Which ports are published, changed: what is left of what was asked for, what is taken back, and what is still to be found.

use api::container::{Changes, Config, HostConfig, PortBinding, PortChoice, PortMap};
use network::ports::{self as held, Wish};

use super::ports::{self, Published};
use crate::error::{Error, Result};

/// What a change comes to.
#[derive(Debug, PartialEq)]
pub(crate) struct Plan {
    /// What is asked for from now on: `HostConfig.PortBindings`.
    pub bindings: PortMap,
    /// Whether all exposed ports are to be published.
    pub all: bool,
    /// Of those that are published now, those that are not to be any more.
    pub gone: Vec<Published>,
    /// Those to be found.
    pub wishes: Vec<Wish>,
}

/// Something that was asked for, and the port of the host that was found for it.
#[derive(Debug, Clone)]
struct Bound {
    wish: Wish,
    binding: PortBinding,
    number: Option<u16>,
}

/// Plans a change. `published` is what the container has if it runs.
pub(crate) fn plan(
    name: &str,
    host: &HostConfig,
    config: &Config,
    published: &[Published],
    changes: &Changes,
) -> Result<Plan> {
    let added = HostConfig { port_bindings: changes.publish_add.clone(), ..HostConfig::default() };
    let wishes = ports::wishes(&added, &Config::default())?;
    let (mut bindings, mut all) = (host.port_bindings.clone(), host.publish_all_ports);
    let mut gone = Vec::new();
    if !changes.publish_remove.is_empty() {
        let mut bound = bound(host, config, published)?;
        for choice in &changes.publish_remove {
            take(name, choice, &mut bound, published, &mut gone)?;
        }
        // What is taken back stays so, also where all that is exposed was to be published.
        all = false;
        bindings = PortMap::new();
        for Bound { wish, binding, .. } in bound {
            bindings.entry(key(&wish)).or_default().get_or_insert_default().push(binding);
        }
    }
    for (key, more) in &changes.publish_add {
        let none = [PortBinding::default()];
        let more = more.as_deref().filter(|more| !more.is_empty()).unwrap_or(&none);
        let (protocol, container) = ports::parse(key)?;
        let key = self::key(&Wish { protocol, container, address: None, host: None });
        bindings.entry(key).or_default().get_or_insert_default().extend_from_slice(more);
    }
    let after =
        HostConfig { port_bindings: bindings.clone(), publish_all_ports: all, ..HostConfig::default() };
    // There may be too many of them now.
    ports::wishes(&after, config)?;
    Ok(Plan { bindings, all, gone, wishes })
}

/// `80/tcp`
fn key(wish: &Wish) -> String {
    format!("{}/{}", wish.container, held::name(wish.protocol))
}

/// All that was asked for, each with the number that it has on the host.
fn bound(host: &HostConfig, config: &Config, published: &[Published]) -> Result<Vec<Bound>> {
    let text = |wish: &Wish| PortBinding {
        host_ip: wish.address.map(|address| address.to_string()).unwrap_or_default(),
        host_port: match &wish.host {
            None => String::new(),
            Some(range) if range.start() == range.end() => range.start().to_string(),
            Some(range) => format!("{}-{}", range.start(), range.end()),
        },
    };
    let wishes = ports::wishes(host, config)?;
    let mut all: Vec<Bound> =
        wishes.into_iter().map(|wish| Bound { binding: text(&wish), wish, number: None }).collect();
    for port in published.iter().filter(|port| port.host > 0) {
        let free = |bound: &&mut Bound| bound.number.is_none_or(|number| number == port.host);
        // Of several that could be meant it is the one that says most.
        let owner =
            all.iter_mut().filter(|bound| covers(&bound.wish, port)).filter(free).max_by_key(|bound| {
                let single = bound.wish.host.as_ref().is_some_and(|range| range.start() == range.end());
                (single, bound.wish.host.is_some(), bound.wish.address.is_some(), bound.number.is_some())
            });
        if let Some(bound) = owner {
            bound.number = Some(port.host);
        }
    }
    Ok(all)
}

/// Whether a port is what was asked for.
fn covers(wish: &Wish, port: &Published) -> bool {
    held::name(wish.protocol) == port.protocol
        && wish.container == port.container
        && wish.address.is_none_or(|address| address == port.address)
        // One that is open at the container's own address has none of the host's.
        && (port.host == 0 || wish.host.as_ref().is_none_or(|range| range.contains(&port.host)))
}

/// Takes back what `choice` names.
fn take(
    name: &str,
    choice: &PortChoice,
    all: &mut Vec<Bound>,
    published: &[Published],
    gone: &mut Vec<Published>,
) -> Result<()> {
    let (protocol, container) = ports::parse(&choice.port)?;
    let address = ports::address(&choice.host_ip)?;
    let host = ports::range(&choice.host_port)?;
    let chosen = Wish { protocol, container, address, host };
    let inside = |number: u16| chosen.host.as_ref().is_none_or(|range| range.contains(&number));
    let meant = |bound: &Bound| {
        let wish = &bound.wish;
        let numbers = match (&bound.number, &wish.host) {
            (Some(number), _) => inside(*number),
            (None, Some(range)) => inside(*range.start()) && inside(*range.end()),
            (None, None) => chosen.host.is_none(),
        };
        wish.protocol == protocol
            && wish.container == container
            && numbers
            && (chosen.address.is_none() || wish.address == chosen.address || wish.address.is_none())
    };
    let mut found = false;
    let mut left = Vec::with_capacity(all.len());
    for bound in all.drain(..) {
        if !meant(&bound) {
            left.push(bound);
            continue;
        }
        let own = |port: &&Published| {
            covers(&bound.wish, port) && (port.host == 0 || bound.number == Some(port.host))
        };
        let (taken, kept): (Vec<&Published>, Vec<&Published>) =
            published.iter().filter(own).partition(|port| covers(&chosen, port));
        // All addresses were asked for, and one is taken back that it is not reached at.
        if taken.is_empty() && bound.wish.address != chosen.address && chosen.address.is_some() {
            left.push(bound);
            continue;
        }
        found = true;
        gone.extend(taken.into_iter().cloned());
        // One family is taken back, the other stays.
        left.extend(kept.into_iter().map(|port| Bound {
            wish: Wish { address: Some(port.address), ..bound.wish.clone() },
            binding: PortBinding { host_ip: port.address.to_string(), ..bound.binding.clone() },
            number: bound.number,
        }));
    }
    *all = left;
    if found { Ok(()) } else { Err(not_published(name, choice)) }
}

/// In Docker's words.
fn not_published(name: &str, choice: &PortChoice) -> Error {
    let PortChoice { port, host_ip, host_port } = choice;
    let shown = match (host_ip.as_str(), host_port.as_str()) {
        ("", "") => port.clone(),
        ("", number) => format!("{number}:{port}"),
        (ip, number) if ip.contains(':') => format!("[{ip}]:{number}:{port}"),
        (ip, number) => format!("{ip}:{number}:{port}"),
    };
    Error::invalid(format!("No public port '{shown}' published for {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(json: &str) -> Changes {
        serde_json::from_str(json).unwrap()
    }

    fn published(all: &[(&str, &str, u16, u16)]) -> Vec<Published> {
        all.iter()
            .map(|(protocol, address, host, container)| Published {
                protocol: (*protocol).into(),
                address: address.parse().unwrap(),
                host: *host,
                container: *container,
                to: None,
            })
            .collect()
    }

    /// What is left, and what is gone.
    fn after(
        host: &str,
        exposed: &str,
        has: &[(&str, &str, u16, u16)],
        json: &str,
    ) -> Result<(String, usize)> {
        let host: HostConfig = serde_json::from_str(host).unwrap();
        let config: Config = serde_json::from_str(exposed).unwrap();
        let plan = plan("web", &host, &config, &published(has), &changes(json))?;
        let left = plan.bindings.iter().flat_map(|(key, bindings)| {
            bindings.iter().flatten().map(move |b| format!("{}:{}:{key}", b.host_ip, b.host_port))
        });
        Ok((left.collect::<Vec<_>>().join(" "), plan.gone.len()))
    }

    #[test]
    fn ports_are_added_and_taken_back() {
        let host =
            r#"{"PortBindings":{"80/tcp":[{"HostPort":"8080"},{"HostIp":"127.0.0.1","HostPort":"8081"}]}}"#;
        let has = [("tcp", "0.0.0.0", 8080, 80), ("tcp", "::", 8080, 80), ("tcp", "127.0.0.1", 8081, 80)];
        let run = |json: &str| after(host, "{}", &has, json).unwrap();
        let add = run(r#"{"PublishAdd":{"53/udp":[{"HostPort":"53"}],"81":null}}"#);
        assert_eq!(add, (":53:53/udp :8080:80/tcp 127.0.0.1:8081:80/tcp ::81/tcp".into(), 0));
        assert_eq!(run(r#"{"PublishRemove":[{"Port":"80/tcp"}]}"#), (String::new(), 3));
        let one = run(r#"{"PublishRemove":[{"Port":"80/tcp","HostPort":"8080"}]}"#);
        assert_eq!(one, ("127.0.0.1:8081:80/tcp".into(), 2));
        let at = run(r#"{"PublishRemove":[{"Port":"80/tcp","HostIp":"127.0.0.1"}]}"#);
        assert_eq!(at, (":8080:80/tcp".into(), 1));
        let family = run(r#"{"PublishRemove":[{"Port":"80","HostIp":"0.0.0.0","HostPort":"8080"}]}"#);
        assert_eq!(family, (":::8080:80/tcp 127.0.0.1:8081:80/tcp".into(), 1));
        // It stops where it was.
        let stopped = after(host, "{}", &[], r#"{"PublishRemove":[{"Port":"80","HostPort":"8080"}]}"#);
        assert_eq!(stopped.unwrap(), ("127.0.0.1:8081:80/tcp".into(), 0));
        for absent in [
            r#"{"PublishRemove":[{"Port":"81/tcp"}]}"#,
            r#"{"PublishRemove":[{"Port":"80/udp"}]}"#,
            r#"{"PublishRemove":[{"Port":"80","HostPort":"9"}]}"#,
            r#"{"PublishRemove":[{"Port":"80","HostIp":"10.0.0.1","HostPort":"8080"}]}"#,
            r#"{"PublishRemove":[{"Port":"80"},{"Port":"80"}]}"#,
        ] {
            let error = after(host, "{}", &has, absent).unwrap_err().to_string();
            assert!(error.starts_with("No public port '"), "{absent}: {error}");
        }
    }

    #[test]
    fn ports_that_were_chosen_for_it_are_told_apart() {
        let host = r#"{"PortBindings":{"80/tcp":[{},{"HostPort":"8080"},{}]}}"#;
        let has =
            [("tcp", "0.0.0.0", 40000, 80), ("tcp", "0.0.0.0", 8080, 80), ("tcp", "0.0.0.0", 40001, 80)];
        let run = |json: &str| after(host, "{}", &has, json).unwrap();
        let fixed = run(r#"{"PublishRemove":[{"Port":"80","HostPort":"8080"}]}"#);
        assert_eq!(fixed, ("::80/tcp ::80/tcp".into(), 1));
        let random = run(r#"{"PublishRemove":[{"Port":"80","HostPort":"40001"}]}"#);
        assert_eq!(random, (":8080:80/tcp ::80/tcp".into(), 1));
    }

    #[test]
    fn of_all_exposed_ports_one_is_taken_back_for_good() {
        let exposed = r#"{"ExposedPorts":{"80/tcp":{},"81/tcp":{}}}"#;
        let has = [("tcp", "0.0.0.0", 40000, 80), ("tcp", "0.0.0.0", 40001, 81)];
        let left =
            after(r#"{"PublishAllPorts":true}"#, exposed, &has, r#"{"PublishRemove":[{"Port":"81"}]}"#);
        assert_eq!(left.unwrap(), ("::80/tcp".into(), 1));
    }
}

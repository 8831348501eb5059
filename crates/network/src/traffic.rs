//! How much goes over a cable: what a container is sent, and what it sends, is held back to a rate. All of it is done at the host's end,
//! where the container cannot take it away.
//!
//! What is sent to the container waits in a token bucket (`tbf`) in front of the cable. What comes from it is led to a device of its own
//! (`ifb`) that has such a bucket, and goes on from there as if it had just come. Such a device does not go with the cable:
//! [`release`] and [`sweep`] remove it.

use std::fmt;
use std::str::FromStr;

use sys::netlink::{ACK, CREATE, EXCLUSIVE, Message, REPLACE, Socket};

use crate::bridge::{self, Context as _, Error};
use crate::link;

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_NEWTFILTER: u16 = 44;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;
const TC_ACT_STOLEN: u32 = 4;
const TCA_EGRESS_REDIR: u32 = 1;
const TC_U32_TERMINAL: u8 = 1;
const LINKLAYER_ETHERNET: u8 = 1;
const TC_H_ROOT: u32 = 0xffff_ffff;
const TC_H_INGRESS: u32 = 0xffff_fff1;
/// The number of what is done with packets that come in.
const INGRESS: u32 = 0xffff_0000;
/// The number of a bucket, and the place in it for what chooses among those that wait.
const BUCKET: u32 = 0x1_0000;
const IN_BUCKET: u32 = 0x1_0001;
/// All protocols, in the order of the network, and the first place among filters.
const ALL_PROTOCOLS: u32 = 0x1_0000 | (3u16.to_be() as u32);

const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;

/// The least and the most: below the first no conversation comes about, above the second no device is.
const BYTES_PER_SECOND: std::ops::RangeInclusive<u64> = 1_000..=125_000_000_000;
/// So much of a second's bytes go at once, where nothing went before.
const BURST_PARTS: u64 = 100;
/// So much of a second's bytes wait: more is dropped, so that whoever sends slows down.
const WAITING_PARTS: u64 = 20;
/// The fewest packets that wait, however slow it is.
const WAITING_PACKETS: u64 = 10;
/// What a packet has beside its payload.
const FRAME_BYTES: u64 = 18;
/// What the kernel takes for a device's largest packet if it does not say.
const MTU: u32 = 1500;

/// A rate, in bytes for each second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

/// A text that is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid rate {0:?}: a number and a unit as 10mbit or 1gbit, from 8kbit to 1tbit")]
pub struct NoRate(String);

impl Rate {
    /// Bytes for each second.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = NoRate;

    /// With the units of tc(8): `bit`, `kbit`, `mbit`, `gbit`, `tbit` and with `i` for binary ones; with `bps` for `bit` bytes are meant.
    /// A number alone is bits.
    fn from_str(text: &str) -> Result<Self, NoRate> {
        let wrong = || NoRate(text.to_owned());
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let unit = unit.to_ascii_lowercase();
        let (prefix, bits) = match unit.strip_suffix("bit") {
            Some(prefix) => (prefix, 1.0),
            None if unit.is_empty() => ("", 1.0),
            None => (unit.strip_suffix("bps").ok_or_else(wrong)?, 8.0),
        };
        let scale = match prefix {
            "" => 1.0,
            "k" => 1e3,
            "m" => 1e6,
            "g" => 1e9,
            "t" => 1e12,
            "ki" => 1024.0,
            "mi" => 1024.0 * 1024.0,
            "gi" => 1024.0 * 1024.0 * 1024.0,
            "ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
            _ => return Err(wrong()),
        };
        let bytes = number * bits * scale / 8.0;
        let (least, most) = (*BYTES_PER_SECOND.start() as f64, *BYTES_PER_SECOND.end() as f64);
        if (least..=most).contains(&bytes) { Ok(Self(bytes as u64)) } else { Err(wrong()) }
    }
}

/// How much goes over a cable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// To the container.
    pub inward: Option<Rate>,
    /// From it.
    pub outward: Option<Rate>,
}

/// The head of a message about traffic.
fn head(kind: u16, flags: u16, device: u32, handle: u32, parent: u32, info: u32) -> Message {
    let mut body = vec![0; 4];
    for field in [device, handle, parent, info] {
        body.extend(field.to_ne_bytes());
    }
    Message::new(kind, flags, &body)
}

/// A bucket in front of a device; one that is there gets this rate.
fn bucket(device: u32, rate: Rate, mtu: u32) -> Message {
    let packet = u64::from(mtu) + FRAME_BYTES;
    let burst = (rate.0 / BURST_PARTS).max(2 * packet);
    let waiting = (rate.0 / WAITING_PARTS).max(WAITING_PACKETS * packet) + burst;
    let word = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).to_ne_bytes();
    // struct tc_tbf_qopt: a rate, another that is none, how many bytes wait, and two that the burst stands for.
    let mut parameters = vec![0, LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0];
    parameters.extend(word(rate.0));
    parameters.extend([0; 12]);
    parameters.extend(word(waiting));
    parameters.extend([0; 8]);
    let mut message = head(RTM_NEWQDISC, ACK | CREATE | REPLACE, device, BUCKET, TC_H_ROOT, 0);
    message.put_text(TCA_KIND, "tbf");
    message.nest(TCA_OPTIONS, |m| {
        m.put(TCA_TBF_PARMS, &parameters);
        m.put(TCA_TBF_BURST, &word(burst));
        m.put(TCA_TBF_RATE64, &rate.0.to_ne_bytes());
    });
    message
}

/// Of what waits in a bucket, the conversations that say little go first.
fn fair(device: u32) -> Message {
    let mut message = head(RTM_NEWQDISC, ACK | CREATE | REPLACE, device, 0, IN_BUCKET, 0);
    message.put_text(TCA_KIND, "fq_codel");
    message
}

/// No bucket any more.
fn no_bucket(device: u32) -> Message {
    head(RTM_DELQDISC, ACK, device, 0, TC_H_ROOT, 0)
}

/// A place for what is done with packets that come in by a device.
fn ingress(device: u32) -> Message {
    let mut message = head(RTM_NEWQDISC, ACK | CREATE | EXCLUSIVE, device, INGRESS, TC_H_INGRESS, 0);
    message.put_text(TCA_KIND, "ingress");
    message
}

/// Nothing is done with them, and all that was is forgotten.
fn no_ingress(device: u32) -> Message {
    head(RTM_DELQDISC, ACK, device, INGRESS, TC_H_INGRESS, 0)
}

/// All that comes in by a device goes by way of another.
fn lead(device: u32, by: u32) -> Message {
    let mut message = head(RTM_NEWTFILTER, ACK | CREATE | EXCLUSIVE, device, 0, INGRESS, ALL_PROTOCOLS);
    message.put_text(TCA_KIND, "u32");
    // struct tc_u32_sel with one key, which all packets have.
    let mut all = vec![TC_U32_TERMINAL, 0, 1];
    all.resize(32, 0);
    // struct tc_mirred: what becomes of the packet itself, and where it goes.
    let mut redirect = Vec::new();
    for field in [0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, by] {
        redirect.extend(field.to_ne_bytes());
    }
    message.nest(TCA_OPTIONS, |m| {
        m.put(TCA_U32_SEL, &all);
        m.nest(TCA_U32_ACT, |m| {
            m.nest(1, |m| {
                m.put_text(TCA_ACT_KIND, "mirred");
                m.nest(TCA_ACT_OPTIONS, |m| m.put(TCA_MIRRED_PARMS, &redirect));
            });
        });
    });
    message
}

/// The device that what comes from a container goes by, after the name of the host's end of its cable.
fn waypoint(port: &str) -> String {
    format!("rate{}", port.strip_prefix(PORT).unwrap_or(port))
}

/// What the host's ends of cables are called, before a number.
const PORT: &str = "veth";

/// Holds back what goes over the cable whose end on the host is `port`; what is not limited is not held back any more. Can be repeated.
pub fn limit(host: &Socket, port: &str, rates: Rates) -> Result<(), Error> {
    let Some(device) = bridge::device(host, port)? else {
        let gone = std::io::Error::from_raw_os_error(ENODEV);
        return Err(gone).on(format_args!("find network device {port}"));
    };
    let mtu = device.mtu.unwrap_or(MTU);
    match rates.inward {
        Some(rate) => fill(host, device.index, rate, mtu, "what a container is sent")?,
        None => forgiving(host, no_bucket(device.index), &[ENOENT, EINVAL], "what a container is sent")?,
    }
    match rates.outward {
        Some(rate) => {
            let name = waypoint(port);
            let what = "what a container sends";
            forgiving(host, link::ifb(&name), &[EEXIST], what)?;
            let by = bridge::device(host, &name)?.map_or(0, |device| device.index);
            fill(host, by, rate, mtu, what)?;
            // Somebody may have been killed between the two: that there is such a place says nothing of where it leads.
            forgiving(host, no_ingress(device.index), &[ENOENT, EINVAL], what)?;
            host.tell_all(vec![ingress(device.index), lead(device.index, by)]).on(limits(what))
        }
        None => {
            forgiving(host, no_ingress(device.index), &[ENOENT, EINVAL], "what a container sends")?;
            release(host, port)
        }
    }
}

fn fill(host: &Socket, device: u32, rate: Rate, mtu: u32, what: &str) -> Result<(), Error> {
    host.tell(bucket(device, rate, mtu)).on(limits(what))?;
    // Not every kernel has it; then those that came first go first.
    let _ = host.tell(fair(device));
    Ok(())
}

fn limits(what: &str) -> impl fmt::Display {
    format!("limit {what}")
}

/// Says something that may have been said before.
fn forgiving(host: &Socket, message: Message, known: &[i32], what: &str) -> Result<(), Error> {
    match host.tell(message) {
        Err(refusal) if refusal.errno().is_some_and(|number| known.contains(&number)) => Ok(()),
        other => other.on(limits(what)),
    }
}

/// Removes what does not go with the cable whose end on the host is, or was, `port`.
pub fn release(host: &Socket, port: &str) -> Result<(), Error> {
    bridge::remove(host, &waypoint(port))
}

/// Removes what is left of cables that are no more.
pub fn sweep(host: &Socket) -> Result<(), Error> {
    let mut devices = Vec::new();
    host.ask(link::list(), |kind, message| {
        devices.extend(link::read_device(kind, message));
        Ok(())
    })
    .on("list network devices")?;
    let mut left = devices.iter().filter(|device| device.kind.as_deref() == Some("ifb")).filter(|device| {
        let number = device.name.strip_prefix("rate").unwrap_or_default();
        let ours = number.len() == 7 && number.bytes().all(|byte| byte.is_ascii_hexdigit());
        ours && !devices.iter().any(|other| other.name == format!("{PORT}{number}"))
    });
    left.try_for_each(|device| bridge::remove(host, &device.name))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    use ipnet::IpNet;

    use super::*;
    use crate::bridge::{Bridge, Endpoint};
    use crate::namespace::Namespace;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    /// A host with a bridge, and a container on it.
    fn world() -> Option<(Namespace, Namespace)> {
        let Ok(host) = Namespace::create() else {
            println!("SKIPPED [network namespace]");
            return None;
        };
        let bridge = Bridge {
            name: "br0".into(),
            mac: [2, 0, 0, 0, 0, 1],
            mtu: None,
            addresses: vec![net("10.9.0.1/24")],
        };
        let index = bridge::ensure(host.route(), &bridge).unwrap();
        bridge::loopback(&host).unwrap();
        let inside = Namespace::create().unwrap();
        let endpoint = Endpoint {
            interface: "eth0".into(),
            port: "veth0123456".into(),
            mac: [2, 0, 0, 0, 0, 2],
            addresses: vec![net("10.9.0.2/24")],
            gateways: vec![],
            mtu: None,
            isolated: false,
            sysctls: Vec::new(),
        };
        bridge::connect(host.route(), index, &inside, &endpoint).unwrap();
        Some((host, inside))
    }

    /// How many bytes a second get from one to the other.
    fn speed(from: &Namespace, to: &Namespace, address: &str, bytes: usize) -> f64 {
        let listener = to.run(|| TcpListener::bind((address, 0))).unwrap();
        let mut stream = from.run(|| TcpStream::connect(listener.local_addr().unwrap())).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        let begun = Instant::now();
        let sender = std::thread::spawn(move || stream.write_all(&vec![0; bytes]).unwrap());
        let mut read = vec![0; 1 << 16];
        while other.read(&mut read).unwrap() > 0 {}
        sender.join().unwrap();
        bytes as f64 / begun.elapsed().as_secs_f64()
    }

    fn rate(text: &str) -> Option<Rate> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn what_goes_over_a_cable_is_held_back_both_ways() {
        const BYTES: usize = 2_000_000;
        let Some((host, inside)) = world() else { return };
        let set = |inward, outward| limit(host.route(), "veth0123456", Rates { inward, outward });
        let into = || speed(&host, &inside, "10.9.0.2", BYTES);
        let out = || speed(&inside, &host, "10.9.0.1", BYTES);
        let within = |what: &str, speed: f64, rate: f64| {
            println!("{what}: {speed:.0} of {rate} bytes a second");
            // Busy machines may be slower; none is faster but for the burst.
            assert!((rate * 0.5..rate * 1.1).contains(&speed), "{what}: {speed}");
        };
        set(rate("16mbit"), rate("24mbit")).unwrap();
        within("to it", into(), 2e6);
        within("from it", out(), 3e6);
        set(rate("32mbit"), rate("16mbit")).unwrap();
        within("to it, changed", into(), 4e6);
        within("from it, changed", out(), 2e6);
        set(None, None).unwrap();
        set(None, None).unwrap();
        assert!(into() > 2e7 && out() > 2e7, "as fast as it goes");
        assert_eq!(bridge::device(host.route(), "rate0123456").unwrap(), None);
    }

    #[test]
    fn what_is_left_of_a_cable_is_swept() {
        let Some((host, inside)) = world() else { return };
        let rates = Rates { inward: None, outward: rate("1mbit") };
        limit(host.route(), "veth0123456", rates).unwrap();
        host.route().tell(link::ifb("rateabc")).unwrap();
        sweep(host.route()).unwrap();
        let there = |name: &str| bridge::device(host.route(), name).unwrap().is_some();
        assert!(there("rate0123456"), "the cable is there");
        bridge::remove(host.route(), "veth0123456").unwrap();
        drop(inside);
        sweep(host.route()).unwrap();
        assert!(!there("rate0123456"));
        assert!(there("rateabc"), "that is somebody else's");
        let gone = limit(host.route(), "veth0123456", rates).unwrap_err();
        assert_eq!(gone.to_string(), "cannot find network device veth0123456");
    }

    #[test]
    fn rates_have_the_units_of_tc() {
        for (text, bytes) in [
            ("8kbit", 1000),
            ("10mbit", 1_250_000),
            ("10Mbit", 1_250_000),
            ("1gbit", 125_000_000),
            ("1.5mbit", 187_500),
            ("1mbps", 1_000_000),
            ("1mibit", 131_072),
            ("64000", 8000),
        ] {
            assert_eq!(text.parse(), Ok(Rate(bytes)), "{text}");
        }
        for wrong in
            ["", "x", "10", "10m", "-1mbit", "1mbit ", "1e9bit", "2tbit", "7kbit", "1.2.3mbit", "nan"]
        {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }
}

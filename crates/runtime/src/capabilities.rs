//! Capabilities: their names, sets of them, and Docker's way to say which a container has.

use std::fmt;

use oci::runtime as spec;

/// Names without `CAP_`; the index is the kernel's number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// One capability.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

impl Capability {
    /// Trace processes.
    pub const SYS_PTRACE: Self = Self(19);
    /// The one that is nearly root.
    pub const SYS_ADMIN: Self = Self(21);

    /// The capability with this name, in any case, with or without `CAP_`.
    pub fn parse(name: &str) -> Option<Self> {
        let upper = name.trim().to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        NAMES.iter().position(|known| *known == bare).map(|number| Self(number as u8))
    }

    /// The capability with the kernel's number, if it is known.
    pub fn from_number(number: u8) -> Option<Self> {
        (usize::from(number) < NAMES.len()).then_some(Self(number))
    }

    /// The kernel's number.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The name with `CAP_`.
    pub fn name(self) -> String {
        format!("CAP_{}", NAMES[usize::from(self.0)])
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CAP_{}", NAMES[usize::from(self.0)])
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A set of capabilities, as the kernel has it: a bit for each.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// None at all.
    pub const EMPTY: Self = Self(0);
    /// All that are known.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);
    /// What Docker gives to a container that asks for nothing: chown, dac_override, fowner, fsetid, kill, setgid,
    /// setuid, setpcap, net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap.
    pub const DEFAULT: Self = Self(0xa804_25fb);

    /// The set with these bits; unknown ones are left out.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// The kernel's bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether `capability` is in it.
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & (1 << capability.0) != 0
    }

    /// Adds one.
    pub const fn insert(&mut self, capability: Capability) {
        self.0 |= 1 << capability.0;
    }

    /// Takes one away.
    pub const fn remove(&mut self, capability: Capability) {
        self.0 &= !(1 << capability.0);
    }

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The capabilities, in the kernel's order.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        (0..NAMES.len() as u8).map(Capability).filter(move |capability| self.contains(*capability))
    }

    /// Their names with `CAP_`, in the kernel's order.
    pub fn names(self) -> Vec<String> {
        self.iter().map(Capability::name).collect()
    }

    /// The set as the runtime configuration writes it.
    pub fn to_spec(self) -> spec::Capabilities {
        // The names are those of the specification, so none is lost.
        self.iter().filter_map(|capability| NAMES[usize::from(capability.0)].parse().ok()).collect()
    }

    /// The set that the runtime configuration writes.
    pub fn from_spec(capabilities: &spec::Capabilities) -> Self {
        capabilities.iter().filter_map(|capability| Capability::parse(&capability.to_string())).collect()
    }

    /// What a container has that adds and drops these to and from `self`; `all` stands for each of `available`, which
    /// is what the engine itself may give. Docker's rules and words.
    pub fn adjusted(
        self,
        add: &[String],
        drop: &[String],
        available: Self,
    ) -> Result<Self, UnknownCapability> {
        let (add, add_all) = parse_list(add, available)?;
        let (drop, drop_all) = parse_list(drop, available)?;
        Ok(Self(match (add_all, drop_all) {
            (true, _) => available.0 & !drop.0,
            (false, true) => add.0,
            (false, false) => (self.0 & available.0 & !drop.0) | add.0,
        }))
    }
}

fn parse_list(
    names: &[String],
    available: CapabilitySet,
) -> Result<(CapabilitySet, bool), UnknownCapability> {
    let mut set = CapabilitySet::EMPTY;
    let mut all = false;
    for name in names {
        if name.eq_ignore_ascii_case("all") {
            all = true;
            continue;
        }
        let upper = name.to_ascii_uppercase();
        let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        let capability = Capability::parse(&full).ok_or(UnknownCapability::Unknown { name: full })?;
        if !available.contains(capability) {
            return Err(UnknownCapability::NotAvailable { capability });
        }
        set.insert(capability);
    }
    Ok((set, all))
}

impl FromIterator<Capability> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        let mut set = Self::EMPTY;
        for capability in capabilities {
            set.insert(capability);
        }
        set
    }
}

impl fmt::Debug for CapabilitySet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.iter()).finish()
    }
}

/// A name that is no capability which the engine could give. The words are Docker's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownCapability {
    /// No kernel has it.
    #[error("unknown capability: \"{name}\"")]
    Unknown {
        /// The name with `CAP_`.
        name: String,
    },
    /// This kernel has it not, or the engine itself lacks it.
    #[error(
        "capability not supported by your kernel or not available in the current environment: \"{capability}\""
    )]
    NotAvailable {
        /// The capability.
        capability: Capability,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_and_numbers() {
        for number in 0..41 {
            let capability = Capability::from_number(number).unwrap();
            assert_eq!(Capability::parse(&capability.name()), Some(capability));
            assert_eq!(Capability::parse(&capability.name()[4..].to_lowercase()), Some(capability));
        }
        assert_eq!(Capability::from_number(41), None);
        assert_eq!(Capability::parse("CAP_CAP_CHOWN"), None);
        assert_eq!(Capability::SYS_ADMIN.name(), "CAP_SYS_ADMIN");
        assert_eq!(Capability::SYS_PTRACE.name(), "CAP_SYS_PTRACE");
        assert_eq!(CapabilitySet::from_spec(&CapabilitySet::ALL.to_spec()), CapabilitySet::ALL);
    }

    #[test]
    fn numbers_are_the_kernels() {
        let path = "/usr/include/linux/capability.h";
        let Ok(header) = std::fs::read_to_string(path) else {
            println!("skipped: no kernel headers ({path})");
            return;
        };
        let mut seen = 0;
        for line in header.lines() {
            let mut words = line.split_whitespace();
            let (Some("#define"), Some(name), Some(number)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            if let (true, Ok(number)) = (name.starts_with("CAP_"), number.parse::<u8>()) {
                assert_eq!(Capability::parse(name).map(Capability::number), Some(number), "{name}");
                seen += 1;
            }
        }
        assert!(seen >= 41, "only {seen} capabilities in {path}");
    }

    #[test]
    fn dockers_default() {
        assert_eq!(
            CapabilitySet::DEFAULT.names().join(" "),
            "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP \
             CAP_NET_BIND_SERVICE CAP_NET_RAW CAP_SYS_CHROOT CAP_MKNOD CAP_AUDIT_WRITE CAP_SETFCAP"
        );
    }

    #[test]
    fn add_and_drop() {
        let all = CapabilitySet::ALL;
        let adjusted = |add: &[&str], drop: &[&str], available| {
            CapabilitySet::DEFAULT.adjusted(&strings(add), &strings(drop), available)
        };
        assert_eq!(adjusted(&[], &[], all).unwrap(), CapabilitySet::DEFAULT);
        assert_eq!(adjusted(&["ALL"], &[], all).unwrap(), all);
        assert_eq!(adjusted(&[], &["all"], all).unwrap(), CapabilitySet::EMPTY);
        assert_eq!(adjusted(&["net_admin"], &["ALL"], all).unwrap().names(), ["CAP_NET_ADMIN"]);
        let most = adjusted(&["ALL"], &["CAP_SYS_ADMIN"], all).unwrap();
        assert!(!most.contains(Capability::SYS_ADMIN) && most.bits().count_ones() == 40);
        let both = adjusted(&["SYS_ADMIN", "CHOWN"], &["chown", "mknod"], all).unwrap();
        assert!(
            both.contains(Capability::SYS_ADMIN)
                && both.contains(Capability(0))
                && !both.contains(Capability(27))
        );
        assert_eq!(adjusted(&["x"], &[], all).unwrap_err().to_string(), "unknown capability: \"CAP_X\"");
        let few = CapabilitySet::DEFAULT;
        assert_eq!(
            adjusted(&["sys_admin"], &[], few).unwrap_err().to_string(),
            "capability not supported by your kernel or not available in the current environment: \"CAP_SYS_ADMIN\""
        );
        assert_eq!(adjusted(&["all"], &[], few).unwrap(), few);
    }
}

//! Platforms: `linux/amd64`, `linux/arm64/v8`, and which of an index's entries suits one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::lenient::null_as_default;

/// The longest text that is looked at as a platform: the longest known one is a quarter of it.
const MAX_PLATFORM_LEN: usize = 128;

/// An operating system on a kind of processor.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// Kind of processor, in Go's words: `amd64`, `arm64` …
    #[serde(default, deserialize_with = "null_as_default")]
    pub architecture: String,
    /// Operating system, in Go's words: `linux` …
    #[serde(default, deserialize_with = "null_as_default")]
    pub os: String,
    /// Version of the operating system; Windows has use for it.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features of the operating system that are needed.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// Variant of the processor: `v7`, `v8` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// A platform of these parts, in canonical spelling.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        Self {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            variant: variant.map(str::to_owned),
            ..Self::default()
        }
        .normalized()
    }

    /// The platform that this program was built for.
    pub fn host() -> Self {
        Self::new(std::env::consts::OS, std::env::consts::ARCH, None)
    }

    /// Reads `os[/architecture[/variant]]` or `architecture`; what is left out is the host's.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refuse =
            |reason| Error::InvalidPlatform { text: text.chars().take(MAX_PLATFORM_LEN).collect(), reason };
        if text.len() > MAX_PLATFORM_LEN {
            return Err(refuse("cannot parse platform specifier: invalid argument"));
        }
        let parts: Vec<&str> = text.split('/').collect();
        let is_word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if parts.iter().any(|part| part.is_empty() || !part.bytes().all(is_word)) {
            return Err(refuse("is an invalid platform specifier: invalid argument"));
        }
        match parts[..] {
            [one] => {
                let host = Self::host();
                let as_os = Self::new(one, &host.architecture, host.variant.as_deref());
                if KNOWN_OS.contains(&as_os.os.as_str()) {
                    return Ok(as_os);
                }
                let as_architecture = Self::new(&host.os, one, None);
                if KNOWN_ARCHITECTURES.contains(&as_architecture.architecture.as_str()) {
                    return Ok(as_architecture);
                }
                Err(refuse("unknown operating system or architecture: invalid argument"))
            }
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(refuse("cannot parse platform specifier: invalid argument")),
        }
    }

    /// The same platform in canonical spelling: `x86_64` is `amd64`, `aarch64` is `arm64`, `armhf` is `arm/v7` …
    #[must_use]
    pub fn normalized(&self) -> Self {
        let os = match self.os.to_ascii_lowercase().as_str() {
            "" => std::env::consts::OS.to_owned(),
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let architecture = self.architecture.to_ascii_lowercase();
        let variant = self.variant.as_deref().unwrap_or_default().to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386" | "x86" | "386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1" | "") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "" | "8" | "v8" | "v8.0") => ("arm64", ""),
            ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
            ("aarch64" | "arm64", variant) => ("arm64", variant),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            ("powerpc64le" | "powerpc64" | "ppc64le", variant) => ("ppc64le", variant),
            (architecture, variant) => (architecture, variant),
        };
        Self {
            architecture: architecture.to_owned(),
            os,
            os_version: self.os_version.clone().filter(|version| !version.is_empty()),
            os_features: self.os_features.clone(),
            variant: (!variant.is_empty()).then(|| variant.to_owned()),
        }
    }

    /// Platforms whose programs run on this one, the best first.
    pub fn compatible(&self) -> Vec<Self> {
        let this = self.normalized();
        let version =
            this.variant.as_deref().and_then(|variant| variant.trim_start_matches('v').parse::<u32>().ok());
        let sibling = |architecture: &str, variant: Option<String>| {
            Self { architecture: architecture.to_owned(), variant, ..this.clone() }.normalized()
        };
        // Versions of processors have one digit; a bound keeps an absurd one from becoming an absurd list.
        let version = version.map(|version| version.min(16));
        let below = |architecture: &str, from: u32, to: u32| {
            (to..from).rev().map(|v| sibling(architecture, Some(format!("v{v}")))).collect::<Vec<_>>()
        };
        let mut list = vec![this.clone()];
        match this.architecture.as_str() {
            "amd64" => {
                list.extend(below("amd64", version.unwrap_or(1), 1));
                list.push(sibling("386", None));
            }
            "arm64" => {
                list.extend(below("arm64", version.unwrap_or(8), 8));
                list.extend(below("arm", 9, 5));
            }
            "arm" => list.extend(below("arm", version.unwrap_or(7), 5)),
            _ => {}
        }
        list.dedup();
        list
    }

    /// How well a program for `other` runs here: 0 is best, `None` not at all.
    pub fn rank(&self, other: &Self) -> Option<usize> {
        let other = other.normalized();
        self.compatible().iter().position(|candidate| {
            candidate.os == other.os
                && candidate.architecture == other.architecture
                && candidate.variant == other.variant
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(formatter, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

/// Operating systems in Go's words.
const KNOWN_OS: [&str; 16] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
];

/// Kinds of processors in Go's words.
const KNOWN_ARCHITECTURES: [&str; 15] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le",
    "riscv64", "s390x", "sparc64", "wasm",
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spellings_are_made_one() {
        let cases = [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AMD64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("aarch64", "linux/arm64"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("macos/arm64", "darwin/arm64"),
            ("windows/amd64", "windows/amd64"),
        ];
        for (text, canonical) in cases {
            assert_eq!(Platform::parse(text).unwrap().to_string(), canonical, "{text}");
        }
        assert_eq!(Platform::parse("linux").unwrap(), Platform::host());
    }

    #[test]
    fn what_is_no_platform() {
        let cases = [
            ("", "\"\": is an invalid platform specifier: invalid argument"),
            ("linux/", "\"linux/\": is an invalid platform specifier: invalid argument"),
            ("beos", "\"beos\": unknown operating system or architecture: invalid argument"),
            ("a/b/c/d", "\"a/b/c/d\": cannot parse platform specifier: invalid argument"),
        ];
        for (text, words) in cases {
            assert_eq!(Platform::parse(text).unwrap_err().to_string(), words);
        }
    }

    #[test]
    fn order_of_what_runs_here() {
        let names = |text: &str| {
            Platform::parse(text).unwrap().compatible().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names("linux/amd64"), ["linux/amd64", "linux/386"]);
        assert_eq!(names("linux/amd64/v3"), ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"]);
        assert_eq!(names("linux/arm/v7"), ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]);
        assert_eq!(
            names("linux/arm64"),
            ["linux/arm64", "linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]
        );
        let arm64 = Platform::parse("linux/arm64").unwrap();
        assert_eq!(arm64.rank(&Platform::parse("linux/arm64/v8").unwrap()), Some(0));
        assert_eq!(arm64.rank(&Platform::parse("linux/amd64").unwrap()), None);
        assert_eq!(arm64.rank(&Platform::parse("darwin/arm64").unwrap()), None);
    }

    proptest! {
        #[test]
        fn canonical_spelling_is_stable(text in "[a-zA-Z0-9_./-]{0,40}|(linux|windows)/(arm|amd64|arm64|x86_64)(/v[0-9]{1,9})?") {
            if let Ok(platform) = Platform::parse(&text) {
                prop_assert_eq!(platform.normalized(), platform.clone());
                prop_assert_eq!(platform.rank(&platform), Some(0));
                prop_assert_eq!(Platform::parse(&platform.to_string()).unwrap(), platform);
            }
        }
    }
}

//! Arguments before the first stage, and those that are always there.

use std::collections::BTreeSet;

use oci::Platform;

use super::Request;
use super::scope::fits;
use crate::dockerfile::Dockerfile;
use crate::dockerfile::instruction::Command;
use crate::expand::{Environment, Failure, Lexer};

/// Arguments that commands see without `ARG`, and that are not part of an image's history.
pub const PREDEFINED: &[&str] = &[
    "ALL_PROXY",
    "FTP_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "all_proxy",
    "ftp_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Arguments that mean something to the builder itself.
pub const RESERVED: &[&str] = &[
    "BUILDKIT_BUILD_NAME",
    "BUILDKIT_CACHE_MOUNT_NS",
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_DOCKERFILE_CHECK",
    "BUILDKIT_INLINE_CACHE",
    "BUILDKIT_MULTI_PLATFORM",
    "BUILDKIT_SANDBOX_HOSTNAME",
    "BUILDKIT_SBOM_SCAN_CONTEXT",
    "BUILDKIT_SBOM_SCAN_STAGE",
    "BUILDKIT_SYNTAX",
    "SOURCE_DATE_EPOCH",
];

/// Arguments of the platforms, and of the target.
pub fn platform_arguments(request: &Request) -> Environment {
    let mut environment = Environment::new();
    for (prefix, platform) in [("BUILD", &request.build_platform), ("TARGET", &request.target_platform)] {
        let Platform { os, architecture, variant, os_version, .. } = platform;
        let variant = variant.as_deref().unwrap_or_default();
        environment.set(&format!("{prefix}PLATFORM"), &platform.to_string());
        environment.set(&format!("{prefix}OS"), os);
        environment.set(&format!("{prefix}OSVERSION"), os_version.as_deref().unwrap_or_default());
        environment.set(&format!("{prefix}ARCH"), architecture);
        environment.set(&format!("{prefix}VARIANT"), variant);
    }
    environment.set("TARGETSTAGE", request.target.as_deref().unwrap_or("default"));
    environment
}

/// What is known before the first stage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Globals {
    /// Arguments that have values.
    pub environment: Environment,
    /// Arguments that are declared, with or without a value.
    pub declared: BTreeSet<String>,
}

impl Globals {
    /// Reads the arguments before the first stage; and tells what cannot be expanded, with the number of the instruction.
    pub fn of(file: &Dockerfile, request: &Request) -> (Self, Vec<(usize, Failure)>) {
        let mut globals = Self { environment: platform_arguments(request), ..Self::default() };
        let platforms: Vec<String> = globals.environment.names().map(str::to_owned).collect();
        for name in platforms {
            if let Some(value) = request.arguments.get(&name) {
                globals.environment.set(&name, value);
            }
        }
        let mut failures = Vec::new();
        let lexer = Lexer::new(file.directives.escape);
        for (at, instruction) in file.instructions.iter().enumerate() {
            let Command::Arg(arguments) = &instruction.command else {
                if matches!(instruction.command, Command::From(_)) {
                    break;
                }
                continue;
            };
            for argument in arguments {
                let name = &argument.name.text;
                globals.declared.insert(name.clone());
                if let Some(value) = request.arguments.get(name) {
                    globals.environment.set(name, value);
                } else if let Some(word) = &argument.default {
                    match lexer.process(&word.text, &globals.environment) {
                        Ok(done) => match fits(&globals.environment, &argument.name, &done.text) {
                            Ok(()) => globals.environment.set(name, &done.text),
                            Err(failure) => failures.push((at, failure)),
                        },
                        Err(error) => failures.push((at, Failure { span: word.span, error })),
                    }
                }
            }
        }
        (globals, failures)
    }

    /// All names that `FROM` may use.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let declared = self.declared.iter().map(String::as_str);
        declared.chain(self.environment.names().filter(|name| !self.declared.contains(*name)))
    }
}

/// Where commands are found, in an image that says nothing of it.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

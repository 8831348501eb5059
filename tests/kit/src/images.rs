//! Brings fixture images into a host's engine the way users do: from a registry.

use std::sync::OnceLock;

use crate::Output;
use crate::fixtures::{self, Image, Layout};
use crate::host::Host;
use crate::registry::Registry;

/// The registry that all hosts of a test process pull from; it ends with the process.
fn shared() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(Registry::start)
}

/// busybox, packed once a process.
fn busybox() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(fixtures::busybox)
}

impl Host {
    /// Pulls `image` from a registry on loopback and tags it `name`.
    ///
    /// # Panics
    /// It cannot be pushed, pulled or tagged.
    pub fn pull_image(&self, name: &str, image: &Image) {
        let output = self.try_pull_image(name, image);
        assert_eq!(output.code, 0, "cannot pull {name}: {}", output.stderr);
    }

    /// Pulls `image` and gives what the command said, whether it worked or not.
    ///
    /// # Panics
    /// It cannot be pushed, or it was pulled and cannot be tagged.
    #[must_use]
    pub fn try_pull_image(&self, name: &str, image: &Image) -> Output {
        let remote = shared().push(&Layout::new(std::slice::from_ref(image)), name);
        let output = self.corten(["pull", "--quiet", &remote]).run();
        if output.code == 0 {
            let _ = self.corten(["tag", &remote, name]).ok();
        }
        output
    }

    /// Makes the image `busybox` available.
    ///
    /// # Panics
    /// It cannot be pulled.
    pub fn pull_busybox(&self) {
        self.pull_image("busybox", busybox());
    }
}

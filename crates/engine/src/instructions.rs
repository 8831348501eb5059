//! Instructions of Dockerfiles that change an image's configuration: what `--change` of `commit` and `import` takes.

use oci::image::ContainerConfig;

use crate::error::{Error, Result};
use crate::signals;

/// Bytes of all changes together: a Dockerfile of this size does not exist.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// Applies changes, in order.
pub fn apply(config: &mut ContainerConfig, changes: &[String]) -> Result<()> {
    let text = changes.join("\n");
    if text.len() > TEXT_BYTES_MAX {
        return Err(Error::invalid(format!("changes are longer than {TEXT_BYTES_MAX} bytes")));
    }
    let before = config.stop_signal.clone();
    build::changes::apply(config, &text).map_err(Error::invalid)?;
    if config.stop_signal != before {
        signals::parse(&config.stop_signal)?;
    }
    Ok(())
}

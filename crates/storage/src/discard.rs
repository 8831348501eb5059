//! Throwing away what others keep beside the store in its data root.

use std::path::Path;

use crate::error::Result;
use crate::store::Store;

impl Store {
    /// Moves a file or directory on the data root's filesystem out of the way at once, and removes it in the background; what
    /// the end of the process interrupts, the next one removes. What is not there is no error.
    pub fn throw_away(&self, path: &Path) -> Result<()> {
        self.discard(path)
    }
}

//! The command line: commands, flags, formats and progress.

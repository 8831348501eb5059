//! Descriptors that the caller hands on to the program: those of socket activation (`LISTEN_FDS`, sd_listen_fds(3)), and so
//! many more as `--preserve-fds` says.

use oci::runtime::Process;
use sys::process;

use crate::error::Error;

/// How many: the kernel's own default limit on descriptors.
const COUNT_MAX: u32 = 1024;

/// The first that can be handed on.
const FIRST: u32 = 3;

/// What is handed on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Inherited {
    /// All of them, from number 3 on.
    pub(super) count: u32,
    listening: u32,
}

impl Inherited {
    /// Looks what the caller has open, before anything else is opened: a number that is free now could be one of ours later.
    pub(super) fn of_caller(preserve: Option<&str>) -> Result<Self, Error> {
        let wrong = |name: &str, text: &str| {
            Error::Invalid(format!("{name}: {text:?} is not a number up to {COUNT_MAX}"))
        };
        let number = |name: &str, text: &str| {
            text.parse::<u32>().ok().filter(|n| *n <= COUNT_MAX).ok_or_else(|| wrong(name, text))
        };
        // Meant for us only if it says so: the variables may be left over from whoever started our caller.
        let is_ours = std::env::var("LISTEN_PID").is_ok_and(|pid| pid == process::id().to_string());
        let listening = match std::env::var("LISTEN_FDS") {
            Ok(text) if is_ours && !text.is_empty() => number("LISTEN_FDS", &text)?,
            _ => 0,
        };
        let count = listening + preserve.map_or(Ok(0), |text| number("--preserve-fds", text))?;
        match (FIRST..FIRST + count).find(|fd| !process::is_open(*fd as i32)) {
            Some(missing) => {
                let text = format!("--preserve-fds or LISTEN_FDS: descriptor {missing} is not open");
                Err(Error::Invalid(text))
            }
            None => Ok(Self { count, listening }),
        }
    }

    /// Tells the program of those that it is to listen at. It is the first of its kind in there, whatever its number.
    pub(super) fn announce(self, process: &mut Process) {
        if self.listening > 0 {
            let told = [format!("LISTEN_FDS={}", self.listening), "LISTEN_PID=1".to_owned()];
            process.env_mut().get_or_insert_default().extend(told);
        }
    }
}

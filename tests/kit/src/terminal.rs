//! A real terminal: a program on the other end of a pty, with the pty as its controlling terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

/// A program on a terminal.
#[derive(Debug)]
pub struct Terminal {
    controller: File,
    child: Child,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Starts `program args…` on a new terminal of 80 columns and 24 rows; `envs` are added to its environment.
    ///
    /// # Panics
    /// No terminal is to be had.
    #[must_use]
    pub fn spawn(program: &str, args: &[&str], envs: &[(String, String)]) -> Self {
        let controller = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("openpt");
        rustix::pty::grantpt(&controller).expect("grantpt");
        rustix::pty::unlockpt(&controller).expect("unlockpt");
        let path = rustix::pty::ptsname(&controller, Vec::new()).expect("ptsname");
        let open = || -> OwnedFd {
            use rustix::fs::{Mode, OFlags};
            rustix::fs::open(&path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("open the terminal")
        };
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&controller, size).expect("set the size");
        // setsid(1) makes the terminal the controlling one, which needs code between fork and exec otherwise.
        let child = Command::new("setsid")
            .args(["--ctty", "--wait", program])
            .args(args)
            .envs(envs.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::from(open()))
            .stdout(Stdio::from(open()))
            .stderr(Stdio::from(open()))
            .spawn()
            .expect("cannot run setsid");
        let controller = File::from(controller);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut from, to) = (controller.try_clone().expect("dup"), Arc::clone(&screen));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // EIO is the terminal's end of file.
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                to.lock().expect("lock").extend_from_slice(&buffer[..count]);
            }
        });
        Self { controller, child, screen }
    }

    /// Types.
    ///
    /// # Panics
    /// The terminal is gone.
    pub fn send(&mut self, text: &str) {
        self.controller.write_all(text.as_bytes()).expect("write to the terminal");
    }

    /// Changes its size; the programs on it get SIGWINCH.
    ///
    /// # Panics
    /// The terminal is gone.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.controller, size).expect("set the size");
    }

    /// Everything that was written to the terminal so far.
    ///
    /// # Panics
    /// The reader panicked.
    #[must_use]
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().expect("lock")).into_owned()
    }

    /// Waits until `text` has been written.
    ///
    /// # Panics
    /// It is not written within 30 seconds.
    pub fn expect(&self, text: &str) {
        let started = Instant::now();
        while !self.screen().contains(text) {
            assert!(
                started.elapsed() < crate::command::patience(),
                "no {text:?} on the terminal in all the time there was; there is:\n{}",
                self.screen()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the program's end, and returns its exit code.
    ///
    /// # Panics
    /// It runs for 30 more seconds.
    #[must_use]
    pub fn wait(mut self) -> i32 {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status.code().unwrap_or(-1);
            }
            if started.elapsed() > crate::command::patience() {
                let _ = self.child.kill();
                panic!("the program on the terminal does not end; there is:\n{}", self.screen());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

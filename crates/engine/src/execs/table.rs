//! The commands that the daemon knows, bounded: those that have ended are remembered for a while, so that a client can ask how.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use api::exec::CreateRequest;

use crate::containers::record::Record;
use crate::error::{Error, Result};

/// How many commands of one container are remembered that do not run: whoever asks for an exit code does so at once.
const IDLE_MAX: usize = 128;
/// How many may run in one container at once. Each costs the supervisor descriptors.
const RUNNING_MAX: usize = 1024;

/// How a command is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Made, not started.
    Created,
    /// Being started.
    Starting,
    /// Running.
    Running {
        /// Its process on the host.
        pid: i32,
    },
    /// Ended.
    Ended {
        /// With this code.
        code: i32,
    },
}

/// A command in a container.
#[derive(Debug)]
pub(crate) struct Exec {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The container.
    pub container: String,
    /// What was asked for.
    pub request: CreateRequest,
    state: Mutex<State>,
}

impl Exec {
    /// A command that has not been started.
    pub fn new(id: String, container: String, request: CreateRequest) -> Self {
        Self { id, container, request, state: Mutex::new(State::Created) }
    }

    /// How it is doing.
    pub fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From made to being started; that happens once.
    pub fn begin(&self) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match *state {
            State::Created => {
                *state = State::Starting;
                Ok(())
            }
            State::Starting | State::Running { .. } => {
                Err(Error::conflict(format!("exec command {} is already running", self.id)))
            }
            State::Ended { .. } => Err(Error::conflict(format!("exec command {} has already run", self.id))),
        }
    }

    /// It runs, unless its end has been heard of already.
    pub fn runs(&self, pid: i32) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if *state == State::Starting {
            *state = State::Running { pid };
        }
    }

    /// It has ended; whether that is news.
    pub fn ended(&self, code: i32) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let news = !matches!(*state, State::Ended { .. });
        *state = State::Ended { code };
        news
    }

    /// Program and arguments on one line, as events show them.
    pub fn command(&self) -> String {
        self.request.cmd.iter().flatten().cloned().collect::<Vec<_>>().join(" ")
    }
}

#[derive(Debug, Default)]
struct Inner {
    by_id: HashMap<String, Arc<Exec>>,
    by_container: HashMap<String, VecDeque<Arc<Exec>>>,
}

/// All commands.
#[derive(Debug, Default)]
pub(crate) struct Table {
    inner: Mutex<Inner>,
}

impl Table {
    /// Adds one; the oldest ones that do not run make room.
    pub fn add(&self, exec: Arc<Exec>) -> Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { by_id, by_container } = &mut *inner;
        let list = by_container.entry(exec.container.clone()).or_default();
        let idle = |e: &Arc<Exec>| matches!(e.state(), State::Created | State::Ended { .. });
        let mut surplus = (list.iter().filter(|e| idle(e)).count() + 1).saturating_sub(IDLE_MAX);
        list.retain(|old| {
            let goes = surplus > 0 && idle(old);
            if goes {
                surplus -= 1;
                by_id.remove(&old.id);
            }
            !goes
        });
        if list.len() >= IDLE_MAX + RUNNING_MAX {
            return Err(Error::conflict(format!(
                "container {} has too many commands running: at most {RUNNING_MAX}",
                exec.container
            )));
        }
        list.push_back(Arc::clone(&exec));
        by_id.insert(exec.id.clone(), exec);
        Ok(())
    }

    /// Finds one by its id, or by an id's beginning that fits one alone.
    pub fn find(&self, id: &str) -> Result<Arc<Exec>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = || Error::not_found(format!("No such exec instance: {id}"));
        if let Some(exec) = inner.by_id.get(id) {
            return Ok(Arc::clone(exec));
        }
        if id.is_empty() {
            return Err(missing());
        }
        let mut fits = inner.by_id.values().filter(|e| e.id.starts_with(id));
        match (fits.next(), fits.next()) {
            (Some(exec), None) => Ok(Arc::clone(exec)),
            _ => Err(missing()),
        }
    }

    /// The ids of a container's commands that have not ended.
    pub fn ids(&self, container: &str) -> Vec<String> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let list = inner.by_container.get(container);
        let alive = |e: &&Arc<Exec>| !matches!(e.state(), State::Ended { .. });
        list.into_iter().flatten().filter(alive).map(|e| e.id.clone()).collect()
    }

    /// A command is known to have ended; if that is news, the one it is.
    pub fn exited(&self, id: &str, code: i32) -> Option<Arc<Exec>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let exec = inner.by_id.get(id)?;
        exec.ended(code).then(|| Arc::clone(exec))
    }

    /// With the container's run, all its commands have ended; those that are news.
    pub fn container_ended(&self, record: &Record, code: i32) -> Vec<Arc<Exec>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let list = inner.by_container.get(&record.id);
        // Also one that is being started: the answer that it runs may come after this, and nothing after that.
        let ran = |e: &&Arc<Exec>| matches!(e.state(), State::Starting | State::Running { .. });
        list.into_iter().flatten().filter(ran).filter(|e| e.ended(code)).map(Arc::clone).collect()
    }

    /// Forgets all commands of a container.
    pub fn forget(&self, container: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for exec in inner.by_container.remove(container).into_iter().flatten() {
            inner.by_id.remove(&exec.id);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.inner.lock().unwrap().by_id.len()
    }
}

/// What an event about a command says.
pub(crate) fn attributes(exec: &Exec, code: Option<i32>) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::from([("execID".to_owned(), exec.id.clone())]);
    if let Some(code) = code {
        attributes.insert("exitCode".to_owned(), code.to_string());
    }
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::record::tests::record;

    fn exec(n: usize) -> Arc<Exec> {
        Arc::new(Exec::new(format!("{n:064x}"), "c".into(), CreateRequest::default()))
    }

    #[test]
    fn a_hundred_thousand_commands_leave_few_behind() {
        let table = Table::default();
        for n in 0..100_000 {
            let exec = exec(n);
            table.add(Arc::clone(&exec)).unwrap();
            exec.begin().unwrap();
            exec.runs(7);
            assert!(table.exited(&exec.id, 0).is_some());
        }
        assert!(table.len() <= IDLE_MAX);
        table.forget("c");
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_command_runs_once_and_its_end_is_not_forgotten_by_a_late_start() {
        let table = Table::default();
        let one = exec(1);
        table.add(Arc::clone(&one)).unwrap();
        assert_eq!(table.ids("c"), std::slice::from_ref(&one.id));
        one.begin().unwrap();
        assert!(one.begin().unwrap_err().to_string().ends_with("is already running"));
        assert!(table.exited(&one.id, 3).is_some() && table.exited(&one.id, 3).is_none());
        one.runs(9);
        assert_eq!(one.state(), State::Ended { code: 3 });
        assert!(one.begin().unwrap_err().to_string().ends_with("has already run"));
        assert!(table.ids("c").is_empty());
        assert!(table.find("zz").is_err());
    }

    #[test]
    fn the_end_of_the_container_ends_also_what_is_being_started() {
        let table = Table::default();
        let [made, starting, running] = [exec(1), exec(2), exec(3)];
        for one in [&made, &starting, &running] {
            let mine = Exec::new(one.id.clone(), record().id, CreateRequest::default());
            table.add(Arc::new(mine)).unwrap();
        }
        let find = |one: &Exec| table.find(&one.id).unwrap();
        find(&starting).begin().unwrap();
        find(&running).begin().unwrap();
        find(&running).runs(7);
        assert_eq!(table.container_ended(&record(), 137).len(), 2);
        find(&starting).runs(8);
        assert_eq!(find(&starting).state(), State::Ended { code: 137 });
        assert_eq!(find(&running).state(), State::Ended { code: 137 });
        assert_eq!(find(&made).state(), State::Created);
    }

    #[test]
    fn those_that_run_are_never_forgotten_for_those_that_do_not() {
        let table = Table::default();
        let running = exec(0);
        table.add(Arc::clone(&running)).unwrap();
        running.begin().unwrap();
        running.runs(1);
        for n in 1..1000 {
            table.add(exec(n)).unwrap();
        }
        assert!(table.find(&running.id).is_ok());
        assert_eq!(table.len(), IDLE_MAX + 1);
    }
}

use super::*;
use proptest::prelude::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn exit(code: i32, second: i64) -> Input {
    Input::Exited(Exit { code, oom: false, at: at(second), unknown: false })
}

/// A short form of effects, for comparison.
fn show(effects: &[Effect]) -> String {
    let one = |effect: &Effect| match effect {
        Effect::Persist => "persist".to_owned(),
        Effect::Show => "show".to_owned(),
        Effect::Launch => "launch".to_owned(),
        Effect::Signal(signal, _) => format!("signal({signal})"),
        Effect::Freeze(_) => "freeze".to_owned(),
        Effect::Thaw(_) => "thaw".to_owned(),
        Effect::Emit(happened) => match happened {
            Happened::Die { code, .. } => format!("die({code})"),
            Happened::Kill { signal } => format!("kill({signal})"),
            other => format!("{other:?}").to_lowercase(),
        },
        Effect::Reply(token, Ok(())) => format!("{token}:ok"),
        Effect::Reply(token, Err(refusal)) => {
            let text = format!("{refusal:?}");
            format!("{token}:{}", text.split(['(', ' ']).next().unwrap_or_default())
        }
        Effect::Wake(wake) => format!("wake({wake:?})"),
        Effect::Arm(timer, after) => format!("arm({timer:?},{}ms)", after.as_millis()),
        Effect::Disarm(timer) => format!("disarm({timer:?})"),
        Effect::Sweep => "sweep".to_owned(),
        Effect::Destroy { volumes } => format!("destroy({volumes})"),
    };
    let quiet = |effect: &&Effect| !matches!(effect, Effect::Disarm(_));
    effects.iter().filter(quiet).map(one).collect::<Vec<_>>().join(" ")
}

fn new(rules: Rules) -> Machine {
    Machine::new(Life::default(), rules)
}

fn running(rules: Rules) -> Machine {
    let mut machine = new(rules);
    assert_eq!(show(&machine.step(Input::Start(1))), "launch");
    let started = machine.step(Input::Launched { pid: 7, at: at(100) });
    assert_eq!(show(&started), "persist start 1:ok");
    machine
}

fn stop(token: Token) -> Input {
    Input::Stop { token, signal: 15, patience: Some(Duration::from_secs(10)) }
}

#[test]
fn a_run_from_start_to_end() {
    let mut m = running(Rules::default());
    assert_eq!(m.life.pid(), Some(7));
    assert_eq!(show(&m.step(Input::Start(2))), "2:NotModified");
    assert_eq!(show(&m.step(exit(3, 105))), "persist sweep die(3) wake(Ended)");
    assert_eq!((m.life.status(), m.life.exit_code), ("exited", 3));
    assert_eq!(show(&m.step(Input::Kill { token: 4, signal: 9, ends: true })), "4:NotRunning");
    assert_eq!(show(&m.step(stop(5))), "5:NotModified");
    assert_eq!(show(&m.step(Input::Remove { token: 6, force: false, volumes: false })), "destroy(false)");
    assert_eq!(show(&m.step(Input::Destroyed)), "destroy wake(Removed) 6:ok");
}

#[test]
fn a_stop_asks_waits_and_kills() {
    let mut m = running(Rules { policy: Policy::Always, auto_remove: false });
    assert_eq!(show(&m.step(stop(2))), "persist signal(15) kill(15) arm(Stop,10000ms)");
    assert_eq!(show(&m.step(Input::StopDeadline)), "signal(9) kill(9) arm(Kill,10000ms)");
    // A person stopped it: the policy is silent.
    assert_eq!(show(&m.step(exit(137, 111))), "persist sweep die(137) wake(Ended) stop 2:ok");
    assert_eq!(m.life.phase, Phase::Exited);
    // And after a restart of the daemon `always` means always.
    assert_eq!(show(&m.step(Input::DaemonStarted)), "launch");
}

#[test]
fn what_will_not_die_is_told_to_all_who_wait() {
    let mut m = running(Rules::default());
    m.step(stop(2));
    m.step(Input::StopDeadline);
    assert_eq!(show(&m.step(Input::KillDeadline)), "2:WouldNotDie");
    assert_eq!(show(&m.step(exit(137, 200))), "persist sweep die(137) wake(Ended)");
}

#[test]
fn a_restart_is_a_stop_and_a_start() {
    let mut m = running(Rules { policy: Policy::No, auto_remove: true });
    let restart = Input::Restart { token: 2, signal: 15, patience: Some(Duration::from_secs(1)) };
    assert_eq!(show(&m.step(restart)), "signal(15) kill(15) arm(Stop,1000ms)");
    // A container that is to be removed when it ends is not, when it is to start again.
    assert_eq!(show(&m.step(exit(143, 101))), "persist sweep die(143) wake(Ended) stop launch");
    assert_eq!(show(&m.step(Input::Launched { pid: 8, at: at(102) })), "persist start restart 2:ok");
}

#[test]
fn a_restart_that_a_killed_daemon_began_keeps_nobody_waiting() {
    let mut m = running(Rules::default());
    m.step(Input::Restart { token: 2, signal: 15, patience: None });
    m.step(exit(0, 101));
    // This is what was written down.
    assert_eq!(m.life.phase, Phase::Launching);
    let mut next = Machine::new(m.life.clone(), Rules::default());
    assert_eq!(show(&next.step(Input::DaemonStarted)), "");
    assert_eq!(show(&next.step(Input::Start(3))), "launch");
    let mut next = Machine::new(m.life.clone(), Rules::default());
    assert_eq!(show(&next.step(Input::Remove { token: 3, force: false, volumes: false })), "destroy(false)");
    let rules = Rules { policy: Policy::Always, auto_remove: false };
    assert_eq!(show(&Machine::new(m.life, rules).step(Input::DaemonStarted)), "launch");
}

#[test]
fn a_stop_after_a_restart_wins() {
    let mut m = running(Rules::default());
    m.step(Input::Restart { token: 2, signal: 15, patience: None });
    m.step(stop(3));
    assert_eq!(show(&m.step(exit(143, 101))), "persist sweep die(143) wake(Ended) stop 3:ok 2:ok");
    assert_eq!(m.life.phase, Phase::Exited);
}

#[test]
fn policies_start_again_with_growing_delays() {
    let mut m = running(Rules { policy: Policy::OnFailure(2), auto_remove: false });
    assert_eq!(show(&m.step(exit(1, 101))), "persist sweep die(1) wake(Ended) arm(Restart,100ms)");
    assert_eq!(m.life.status(), "restarting");
    assert_eq!(show(&m.step(Input::RestartDue)), "launch");
    m.step(Input::Launched { pid: 8, at: at(102) });
    assert_eq!(show(&m.step(exit(1, 103))), "persist sweep die(1) wake(Ended) arm(Restart,200ms)");
    m.step(Input::RestartDue);
    m.step(Input::Launched { pid: 9, at: at(104) });
    assert_eq!(show(&m.step(exit(1, 105))), "persist sweep die(1) wake(Ended)");
    assert_eq!((m.life.restart_count, m.life.phase), (2, Phase::Exited));
    // A person who starts it gives it all its attempts again.
    m.step(Input::Start(5));
    assert_eq!(m.life.restart_count, 0);
}

#[test]
fn a_stop_ends_the_waiting_for_a_restart() {
    let mut m = running(Rules { policy: Policy::Always, auto_remove: false });
    m.step(exit(0, 101));
    assert_eq!(show(&m.step(stop(2))), "persist stop 2:ok");
    assert_eq!(show(&m.step(Input::RestartDue)), "");
}

#[test]
fn removal_by_the_daemon_happens_once_and_is_joined() {
    let mut m = running(Rules { policy: Policy::No, auto_remove: true });
    assert_eq!(show(&m.step(exit(0, 101))), "show die(0) wake(Ended) destroy(true)");
    assert_eq!(
        show(&m.step(Input::Remove { token: 2, force: false, volumes: false })),
        "2:RemovalInProgress"
    );
    assert_eq!(show(&m.step(Input::Remove { token: 3, force: true, volumes: false })), "");
    assert_eq!(show(&m.step(Input::Destroyed)), "destroy wake(Removed) 3:ok");
}

#[test]
fn a_forced_removal_kills_first_even_what_is_frozen() {
    let mut m = running(Rules { policy: Policy::Always, auto_remove: false });
    assert_eq!(show(&m.step(Input::Pause(2))), "freeze");
    assert_eq!(show(&m.step(Input::Frozen(2))), "persist pause 2:ok");
    assert_eq!(show(&m.step(Input::Start(3))), "3:StartPaused");
    assert_eq!(show(&m.step(Input::Remove { token: 4, force: false, volumes: true })), "4:RemoveAlive");
    assert_eq!(
        show(&m.step(Input::Remove { token: 5, force: true, volumes: true })),
        "signal(9) thaw kill(9) arm(Kill,10000ms)"
    );
    assert_eq!(show(&m.step(exit(137, 101))), "show die(137) wake(Ended) destroy(true)");
    assert_eq!(show(&m.step(Input::DestroyFailed(Error::system("disk")))), "persist sweep 5:Failed");
    assert_eq!(m.life.status(), "dead");
    assert_eq!(show(&m.step(Input::Remove { token: 6, force: false, volumes: true })), "destroy(true)");
}

#[test]
fn a_start_that_fails_leaves_the_container_as_it_was() {
    let mut m = new(Rules::default());
    m.step(Input::Start(1));
    let failed = Input::LaunchFailed { code: 127, error: Error::invalid("no such program") };
    assert_eq!(show(&m.step(failed)), "persist sweep wake(Ended) 1:Failed");
    assert_eq!((m.life.status(), m.life.exit_code), ("created", 127));
    assert_eq!(m.life.error, "no such program");
    let mut gone = new(Rules { policy: Policy::No, auto_remove: true });
    gone.step(Input::Start(1));
    let failed = Input::LaunchFailed { code: 127, error: Error::invalid("no such program") };
    assert!(show(&gone.step(failed)).ends_with("destroy(true)"));
}

#[test]
fn what_was_cut_short_is_finished_when_the_daemon_starts() {
    let life = |phase| Life { phase, started_at: Some(at(1)), finished_at: Some(at(2)), ..Life::default() };
    let first = |phase, rules| show(&Machine::new(life(phase), rules).step(Input::DaemonStarted));
    let none = Rules::default();
    assert_eq!(first(Phase::Restarting, none), "launch");
    assert_eq!(first(Phase::Removing, none), "destroy(false)");
    assert_eq!(first(Phase::Exited, Rules { auto_remove: true, ..none }), "destroy(true)");
    assert_eq!(first(Phase::Exited, none), "");
    assert_eq!(first(Phase::Exited, Rules { policy: Policy::UnlessStopped, ..none }), "launch");
    assert_eq!(first(Phase::Created, Rules { policy: Policy::Always, ..none }), "");
}

/// Everything that can happen from outside.
fn inputs() -> impl Strategy<Value = Input> {
    prop_oneof![
        Just(Input::Start(1)),
        Just(stop(2)),
        Just(Input::Restart { token: 3, signal: 15, patience: None }),
        any::<bool>().prop_map(|ends| Input::Kill { token: 4, signal: 9, ends }),
        Just(Input::Pause(5)),
        Just(Input::Unpause(6)),
        any::<bool>().prop_map(|force| Input::Remove { token: 7, force, volumes: true }),
        (0..3i32).prop_map(|code| exit(code, 200)),
        Just(Input::StopDeadline),
        Just(Input::KillDeadline),
        Just(Input::RestartDue),
        Just(Input::DaemonStarted),
    ]
}

proptest! {
    /// Whatever happens in whatever order: what is asked is answered once it cannot go on, and what is announced was
    /// written before. What is removed next need not be: the supervisor has written its end.
    #[test]
    fn nothing_is_announced_before_it_is_written(
        story in proptest::collection::vec((inputs(), any::<bool>()), 1..40),
        policy in prop_oneof![Just(Policy::No), Just(Policy::Always), Just(Policy::OnFailure(1))],
        auto_remove in any::<bool>(),
    ) {
        let mut m = new(Rules { policy, auto_remove });
        let mut gone = false;
        for (input, works) in story {
            let mut todo = std::collections::VecDeque::from([input]);
            while let Some(input) = todo.pop_front() {
                if gone {
                    break;
                }
                let mut written = false;
                let effects = m.step(input);
                let removed = effects.iter().any(|effect| matches!(effect, Effect::Destroy { .. }));
                for effect in effects {
                    match effect {
                        Effect::Persist => written = true,
                        Effect::Show => prop_assert!(removed),
                        Effect::Sweep => prop_assert!(written),
                        Effect::Emit(Happened::Die { .. } | Happened::Stop) if removed => {}
                        Effect::Emit(Happened::Start | Happened::Die { .. } | Happened::Stop | Happened::Pause | Happened::Unpause) => {
                            prop_assert!(written);
                        }
                        Effect::Launch if works => todo.push_back(Input::Launched { pid: 7, at: at(100) }),
                        Effect::Launch => todo.push_back(Input::LaunchFailed { code: 127, error: Error::invalid("no") }),
                        Effect::Freeze(token) => todo.push_back(Input::Frozen(token)),
                        Effect::Thaw(Some(token)) => todo.push_back(Input::Thawed(token)),
                        Effect::Destroy { .. } if works => {
                            gone = true;
                            m.step(Input::Destroyed);
                        }
                        Effect::Destroy { .. } => todo.push_back(Input::DestroyFailed(Error::system("disk"))),
                        _ => {}
                    }
                }
            }
            prop_assert!(m.life.phase != Phase::Launching || gone);
        }
    }
}

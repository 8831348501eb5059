use super::*;

fn plan(start_period: u64, retries: i64) -> Plan {
    let config = HealthConfig {
        test: vec!["CMD".into(), "true".into()],
        start_period: i64::try_from(start_period).unwrap() * 1_000_000_000,
        retries,
        ..HealthConfig::default()
    };
    Plan::of(Some(&config), &[]).unwrap().unwrap()
}

fn outcome(at: i64, code: i32) -> Outcome {
    let start = Timestamp::from_second(at).unwrap();
    Outcome { start, end: start, code, output: at.to_string() }
}

#[test]
fn failures_in_a_row_make_it_unhealthy_and_one_success_healthy() {
    let (mut health, plan) = (Health::begin(None), plan(0, 2));
    let started = Timestamp::from_second(0).unwrap();
    assert!(!health.take(outcome(1, 1), &plan, started));
    assert_eq!((health.status, health.failing_streak), (Status::Starting, 1));
    assert!(health.take(outcome(2, -1), &plan, started));
    assert_eq!((health.status, health.failing_streak), (Status::Unhealthy, 2));
    assert!(!health.take(outcome(3, 1), &plan, started));
    assert!(health.take(outcome(4, 0), &plan, started));
    assert_eq!((health.status, health.failing_streak), (Status::Healthy, 0));
    // Healthy stays so until there are enough.
    assert!(!health.take(outcome(5, 1), &plan, started));
    assert_eq!(health.status, Status::Healthy);
    for at in 6..20 {
        health.take(outcome(at, 0), &plan, started);
    }
    let kept: Vec<_> = health.log.iter().map(|outcome| outcome.output.as_str()).collect();
    assert_eq!(kept, ["15", "16", "17", "18", "19"]);
    let again = Health::begin(Some(health));
    assert_eq!((again.status, again.failing_streak, again.log.len()), (Status::Starting, 0, 5));
}

#[test]
fn failures_in_the_start_period_do_not_count_until_the_first_success() {
    let (mut health, plan) = (Health::begin(None), plan(10, 1));
    let started = Timestamp::from_second(0).unwrap();
    assert!(!health.take(outcome(5, 1), &plan, started));
    assert_eq!((health.status, health.failing_streak), (Status::Starting, 0));
    assert!(health.take(outcome(6, 0), &plan, started));
    assert!(health.take(outcome(7, 1), &plan, started));
    assert_eq!(health.status, Status::Unhealthy);
    let mut health = Health::begin(None);
    assert!(health.take(outcome(10, 1), &plan, started));
}

#[test]
fn the_time_to_the_next_probe_follows_the_start_period() {
    let seconds = Duration::from_secs;
    let none = plan(0, 0);
    assert_eq!(none.wait(Status::Starting, seconds(0)), INTERVAL);
    assert_eq!((none.retries, none.timeout), (RETRIES, TIMEOUT));
    let long = plan(60, 0);
    assert_eq!(long.wait(Status::Starting, seconds(0)), START_INTERVAL);
    assert_eq!(long.wait(Status::Starting, seconds(58)), seconds(2));
    assert_eq!(long.wait(Status::Healthy, seconds(0)), INTERVAL);
    assert_eq!(long.wait(Status::Starting, seconds(60)), INTERVAL);
}

#[test]
fn what_is_asked_for_is_understood_or_refused() {
    let of = |test: &[&str], shell: &[&str]| {
        let test = test.iter().map(ToString::to_string).collect();
        let shell: Vec<_> = shell.iter().map(ToString::to_string).collect();
        let config = HealthConfig { test, ..HealthConfig::default() };
        Plan::of(Some(&config), &shell).map(|plan| plan.map(|plan| plan.test))
    };
    let command = |words: &[&str]| Some(Test::Command(words.iter().map(ToString::to_string).collect()));
    assert_eq!(of(&[], &[]).unwrap(), None);
    assert_eq!(of(&["NONE"], &[]).unwrap(), None);
    assert_eq!(of(&["CMD", "a", "b"], &[]).unwrap(), command(&["a", "b"]));
    assert_eq!(of(&["CMD-SHELL", "a b"], &[]).unwrap(), command(&["/bin/sh", "-c", "a b"]));
    assert_eq!(of(&["CMD-SHELL", "a"], &["ash", "-ec"]).unwrap(), command(&["ash", "-ec", "a"]));
    assert!(matches!(of(&["HTTP", "http://localhost/x"], &[]).unwrap(), Some(Test::Http(_))));
    assert!(matches!(of(&["TCP", "localhost:5432"], &[]).unwrap(), Some(Test::Tcp(_))));
    for wrong in
        [&["CMD"][..], &["CMD-SHELL"], &["HTTP"], &["TCP", "db:1"], &["TCP", "a", "b"], &["GRPC", "x"]]
    {
        assert!(of(wrong, &[]).is_err(), "{wrong:?}");
    }
    let refused = |config: HealthConfig| check(&config).unwrap_err().to_string();
    assert_eq!(
        refused(HealthConfig { timeout: 1, ..HealthConfig::default() }),
        "Timeout in Healthcheck cannot be less than 1ms"
    );
    assert_eq!(
        refused(HealthConfig { retries: -1, ..HealthConfig::default() }),
        "Retries in Healthcheck cannot be negative"
    );
}

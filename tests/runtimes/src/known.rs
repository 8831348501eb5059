//! What is known not to hold: by runtime, test and reason. A test on the list that holds is a failure, so the list stays true.

use crate::runtime::Kind;

/// One line of the table.
struct Known {
    kind: Kind,
    test: &'static str,
    reason: &'static str,
    /// Whether it holds at times.
    race: bool,
}

const fn known(kind: Kind, test: &'static str, reason: &'static str) -> Known {
    Known { kind, test, reason, race: false }
}

const fn race(kind: Kind, test: &'static str, reason: &'static str) -> Known {
    Known { kind, test, reason, race: true }
}

/// The table.
const TABLE: &[Known] = &[
    known(Kind::Runc, "exec::it_runs_on_the_processors_it_is_given", OLD_RUNC),
    known(
        Kind::Runc,
        "hooks::a_failure_after_the_start_stops_the_container",
        "1.1 runs the hooks after the start when it has made the container",
    ),
    known(
        Kind::Runc,
        "hooks::a_failure_at_the_end_does_not_keep_the_others_from_running",
        "it stops at the first hook that fails",
    ),
    known(
        Kind::Runc,
        "hooks::a_failure_inside_keeps_the_program_from_running",
        "its start does not wait for the hooks inside",
    ),
    known(
        Kind::Runc,
        "hooks::they_get_the_state_and_their_own_arguments_and_environment",
        "1.1 runs the hooks after the start when it has made the container",
    ),
    known(
        Kind::Runc,
        "hooks::they_run_in_their_order_at_their_time",
        "1.1 runs the hooks after the start when it has made the container",
    ),
    known(Kind::Runc, "mounts::a_mount_can_have_the_id_maps_of_the_container", OLD_RUNC),
    known(Kind::Runc, "mounts::a_mount_has_id_maps_of_its_own", OLD_RUNC),
    known(Kind::Runc, "mounts::a_mount_without_maps_takes_those_of_the_container_or_none", OLD_RUNC),
    known(
        Kind::Runc,
        "mounts::a_shared_root_is_of_a_group_that_is_not_the_hosts",
        "it makes the mount that holds the root private, and the root a copy of that",
    ),
    known(Kind::Runc, "mounts::an_unbindable_root", "it binds the root onto itself once that is unbindable"),
    known(Kind::Runc, "mounts::id_maps_reach_the_mounts_below_if_they_are_asked_to", OLD_RUNC),
    known(
        Kind::Runc,
        "mounts::options_that_set_nothing_are_understood",
        "1.1 hands what sets nothing to the filesystem",
    ),
    known(Kind::Runc, "namespaces::a_domain_name_is_set", OLD_RUNC),
    known(Kind::Runc, "namespaces::a_time_namespace_can_be_joined", OLD_RUNC),
    known(
        Kind::Runc,
        "namespaces::a_user_namespace_can_be_joined",
        "1.1 wants mappings for a namespace that has some",
    ),
    known(Kind::Runc, "namespaces::network_devices_are_moved_and_renamed_and_keep_their_addresses", OLD_RUNC),
    known(Kind::Runc, "namespaces::the_clocks_of_a_time_namespace_are_off_by_what_is_asked_for", OLD_RUNC),
    known(Kind::Runc, "process::deadline_scheduling", OLD_RUNC),
    known(Kind::Runc, "process::policies_of_memory", OLD_RUNC),
    known(Kind::Runc, "process::real_time_scheduling", OLD_RUNC),
    known(Kind::Runc, "process::scheduling_policies_without_a_deadline", OLD_RUNC),
    known(Kind::Runc, "process::the_personality_of_another_machine", OLD_RUNC),
    known(Kind::Runc, "process::the_priority_of_input_and_output", OLD_RUNC),
    known(Kind::Runc, "refusals::limits_that_cannot_be", "1.1 takes a limit that is given twice"),
    known(Kind::Runc, "resources::bursts_of_processor_time", OLD_RUNC),
    known(Kind::Runc, "resources::idle_groups", OLD_RUNC),
    known(Kind::Runc, "seccomp::flags_of_the_filter_are_taken", OLD_RUNC),
    known(Kind::Runc, "seccomp::the_mitigation_of_speculation_is_left_off_if_asked", OLD_RUNC),
    known(Kind::Crun, "commands::a_container_is_kept_if_it_is_asked_for", OLD_CRUN),
    known(Kind::Crun, "commands::an_example_for_an_ordinary_user", "its examples for users map nobody"),
    known(Kind::Crun, "commands::features_are_told", OLD_CRUN),
    known(Kind::Crun, "commands::running_out_of_memory_is_told", "it has no such command"),
    known(Kind::Crun, "commands::the_figures_of_a_container_are_told", "it has no such command"),
    known(Kind::Crun, "exec::a_capability_can_be_added", "it gives the process that capability alone"),
    known(Kind::Crun, "exec::flags_change_what_it_is", "its variables take the place of the container's"),
    known(Kind::Crun, "exec::groups_can_be_added", "it has no such flag"),
    known(Kind::Crun, "exec::it_cannot_be_put_into_a_group_outside", "it takes any path"),
    known(
        Kind::Crun,
        "exec::it_has_the_containers_limits",
        "a process that is added has the limits of the caller",
    ),
    known(
        Kind::Crun,
        "exec::it_has_the_containers_rights",
        "a process that is added may have new privileges",
    ),
    known(Kind::Crun, "exec::it_runs_on_the_processors_it_is_given", OLD_CRUN),
    known(Kind::Crun, "exec::what_is_paused_takes_no_processes_unless_told_to", "it has no such flag"),
    known(
        Kind::Crun,
        "hooks::a_failure_after_the_start_stops_the_container",
        "it logs that the hook failed, as the specification had it until 1.2",
    ),
    known(
        Kind::Crun,
        "hooks::a_failure_inside_keeps_the_program_from_running",
        "its start does not wait for the hooks inside",
    ),
    known(Kind::Crun, "hooks::after_a_failure_the_hooks_of_the_end_run", "it does not run them"),
    known(
        Kind::Crun,
        "hooks::they_get_the_state_and_their_own_arguments_and_environment",
        "it says that what is being made has been",
    ),
    known(
        Kind::Crun,
        "lifecycle::processes_that_are_left_end_with_the_container",
        "it waits for all processes",
    ),
    known(
        Kind::Crun,
        "lifecycle::the_dead_get_no_signals",
        "it asks the kernel for it and takes what that says",
    ),
    known(
        Kind::Crun,
        "lifecycle::what_does_not_stand_still_cannot_go_on",
        "it asks the kernel for it and takes what that says",
    ),
    known(
        Kind::Crun,
        "mounts::a_slave_root_follows_the_host",
        "1.8.1 makes the root private whatever is asked for",
    ),
    known(
        Kind::Crun,
        "mounts::id_maps_reach_the_mounts_below_if_they_are_asked_to",
        "1.8.1 does not carry the mounts below into a mapped one",
    ),
    known(Kind::Crun, "mounts::options_that_came_later", OLD_CRUN),
    known(Kind::Crun, "mounts::options_that_take_others_back", "1.8.1 never takes an option back"),
    known(
        Kind::Crun,
        "mounts::propagation_of_what_is_bound",
        "1.8.1 forgets of whom a mount below a shared root is a slave",
    ),
    known(
        Kind::Crun,
        "mounts::recursive_options_reach_all_below",
        "1.8.1 asks for times of access without the mask that the kernel wants",
    ),
    known(
        Kind::Crun,
        "mounts::recursive_options_take_others_back",
        "1.8.1 asks for times of access without the mask that the kernel wants",
    ),
    known(Kind::Crun, "namespaces::a_time_namespace_can_be_joined", CRUN_TIME),
    known(Kind::Crun, "namespaces::network_devices_are_moved_and_renamed_and_keep_their_addresses", OLD_CRUN),
    known(Kind::Crun, "namespaces::the_clocks_of_a_time_namespace_are_off_by_what_is_asked_for", CRUN_TIME),
    known(Kind::Crun, "process::deadline_scheduling", OLD_CRUN),
    known(Kind::Crun, "process::policies_of_memory", OLD_CRUN),
    known(Kind::Crun, "process::real_time_scheduling", OLD_CRUN),
    known(Kind::Crun, "process::scheduling_policies_without_a_deadline", OLD_CRUN),
    known(Kind::Crun, "process::the_priority_of_input_and_output", OLD_CRUN),
    known(Kind::Crun, "refusals::a_field_of_the_wrong_kind", "it is content with less"),
    known(Kind::Crun, "refusals::a_namespace_that_is_not_there", "it is content with less"),
    known(Kind::Crun, "refusals::a_resource_that_the_kernel_refuses", "it leaves the group"),
    known(Kind::Crun, "refusals::limits_that_cannot_be", "it is content with less"),
    known(Kind::Crun, "refusals::names_that_are_no_names", "it is content with less"),
    known(Kind::Crun, "refusals::no_process_or_an_empty_one", "it is content with less"),
    known(
        Kind::Crun,
        "refusals::user_namespaces_without_maps_and_maps_without_namespaces",
        "it is content with less",
    ),
    known(Kind::Crun, "resources::bursts_of_processor_time", OLD_CRUN),
    known(Kind::Crun, "resources::the_number_of_processes", "1.8.1 writes the -1 as it is"),
    known(Kind::Crun, "resources::the_weight_of_disks", "1.8.1 does not know the file of newer kernels"),
    known(Kind::Crun, "seccomp::a_listener_that_is_not_there_is_an_error", "it is content with less"),
];

/// Debian 12 has 1.1.5, which is of specification 1.0.2.
const OLD_RUNC: &str = "newer than runc 1.1.5, which ignores or refuses it";

/// Debian 12 has 1.8.1.
const OLD_CRUN: &str = "newer than crun 1.8.1, which ignores or refuses it";

const CRUN_TIME: &str =
    "the init of crun 1.8.1 ends once it has left the time namespace, before the offsets are written";

/// Those that hold at times.
const RACES: &[Known] = &[
    race(Kind::Runc, "exec::a_whole_process_comes_from_a_file", GO_FILES),
    race(Kind::Runc, "exec::it_has_the_containers_limits", GO_FILES),
    race(
        Kind::Crun,
        "hooks::they_run_in_their_order_at_their_time",
        "1.8.1 runs the hooks after the start without waiting for those inside",
    ),
];

const GO_FILES: &str =
    "Go raises its own limit of open files while it starts, at times over that of the configuration";

/// Why `test` does not hold with a runtime, if that is known; and whether it may hold all the same.
#[must_use]
pub fn reason(kind: Kind, test: &str) -> Option<(&'static str, bool)> {
    let mut all = TABLE.iter().chain(RACES);
    all.find(|known| known.kind == kind && known.test == test).map(|known| (known.reason, known.race))
}

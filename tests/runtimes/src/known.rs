//! What is known not to hold: by runtime, test and reason. A test on the list that holds is a failure, so the list stays true.

use crate::runtime::Kind;

/// One line of the table.
struct Known {
    kind: Kind,
    test: &'static str,
    reason: &'static str,
}

const fn known(kind: Kind, test: &'static str, reason: &'static str) -> Known {
    Known { kind, test, reason }
}

/// The table.
const TABLE: &[Known] = &[
    known(Kind::Runc, "mounts::a_mount_can_have_the_id_maps_of_the_container", OLD_RUNC),
    known(Kind::Runc, "mounts::a_mount_has_id_maps_of_its_own", OLD_RUNC),
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
];

/// Debian 12 has 1.1.5, which is of specification 1.0.2.
const OLD_RUNC: &str = "newer than runc 1.1.5, which ignores or refuses it";

/// Debian 12 has 1.8.1.
const OLD_CRUN: &str = "newer than crun 1.8.1, which ignores or refuses it";

const CRUN_TIME: &str =
    "the init of crun 1.8.1 ends once it has left the time namespace, before the offsets are written";

/// Why `test` does not hold with a runtime, if that is known.
#[must_use]
pub fn reason(kind: Kind, test: &str) -> Option<&'static str> {
    TABLE.iter().find(|known| known.kind == kind && known.test == test).map(|known| known.reason)
}

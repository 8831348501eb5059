//! Sets and maps of conversations' states, as rules look them up: what is in them is not in the rules.

use std::collections::{BTreeMap, BTreeSet};

use sys::netlink::attributes;

use super::super::batch;
use super::{Rules, Test, Verdict, number, value, verdict, word};
use crate::firewall::attribute;

/// There are eight states, and whoever has more elements than these is not understood.
const ELEMENTS_MAX: usize = 32;
/// Of an element: it stands for all that there is no other for.
const CATCH_ALL: u32 = 2;

/// What is in a set or a map of states: the states, as bits, and what becomes of a packet of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct States(Vec<(u32, Verdict)>);

impl States {
    /// Takes what is in a message about elements; `false` if there is more than can be understood.
    pub fn take(&mut self, message: &[u8]) -> bool {
        let Some(list) = attribute(message, batch::NFTA_SET_ELEM_LIST_ELEMENTS) else { return true };
        for (_, element) in attributes(list) {
            let find = |wanted| attributes(element).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
            let flags = find(batch::NFTA_SET_ELEM_FLAGS).and_then(number).unwrap_or_default();
            let key =
                find(batch::NFTA_SET_ELEM_KEY).and_then(value).filter(|key| key.len() == size_of::<u32>());
            let bits = match (key, flags) {
                (Some(key), 0) => word(&key),
                (None, CATCH_ALL) => u32::MAX,
                // Of an interval, or whatever comes.
                _ => return false,
            };
            if self.0.len() == ELEMENTS_MAX {
                return false;
            }
            self.0.push((bits, find(batch::NFTA_SET_ELEM_DATA).map_or(Verdict::Continue, verdict)));
        }
        // What stands for all others comes last.
        self.0.sort_by_key(|(bits, _)| *bits);
        true
    }
}

/// What becomes of a packet in this state.
pub fn chosen(map: &[(u32, Verdict)], state: u32) -> &Verdict {
    map.iter().find(|(bits, _)| is_of(*bits, state)).map_or(&Verdict::Continue, |(_, verdict)| verdict)
}

fn is_of(bits: u32, state: u32) -> bool {
    bits == state || bits == u32::MAX
}

/// The sets and maps of states that rules look up.
pub fn wanted(rules: &Rules) -> BTreeSet<String> {
    let of = |test: &Test| match test {
        Test::StateSet(set, _) => Some(set.clone()),
        _ => None,
    };
    let all = rules.values().flatten();
    all.flat_map(|rule| {
        let map = match &rule.verdict {
            Verdict::StateMap(map) => Some(map.clone()),
            _ => None,
        };
        rule.tests.iter().filter_map(of).chain(map)
    })
    .collect()
}

/// Has the rules know what is in those; of others nothing is known.
pub fn complete(rules: &mut Rules, sets: &BTreeMap<String, States>) {
    for rule in rules.values_mut().flatten() {
        for test in &mut rule.tests {
            if let Test::StateSet(set, is) = test
                && let Some(States(states)) = sets.get(set)
            {
                // Each of a packet's states is one bit; an element with more of them is like none.
                let one = states
                    .iter()
                    .map(|(bits, _)| *bits)
                    .filter(|bits| bits.is_power_of_two() || *bits == u32::MAX);
                *test = Test::State(one.fold(0, |all, bits| all | bits), *is);
            }
        }
        if let Verdict::StateMap(map) = &rule.verdict
            && let Some(States(states)) = sets.get(map)
        {
            rule.verdict = Verdict::ByState(states.clone());
        }
    }
}

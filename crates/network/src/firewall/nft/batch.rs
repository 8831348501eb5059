//! Batches: messages of which the kernel carries out all or none.

use sys::netlink::{APPEND, CREATE, Message, NESTED};

use super::rule::Rule;
use super::{Element, Set, Type, size_of};

/// What all messages about packet filters have in their kind.
const SUBSYSTEM: u16 = 10;
const BEGIN: u16 = 16;
const END: u16 = 17;

pub const NEWTABLE: u16 = 0;
pub const GETTABLE: u16 = 1;
const DELTABLE: u16 = 2;
pub const NEWCHAIN: u16 = 3;
pub const GETCHAIN: u16 = 4;
pub const NEWRULE: u16 = 6;
pub const GETRULE: u16 = 7;
const NEWSET: u16 = 9;
pub const NEWSETELEM: u16 = 12;
pub const GETSETELEM: u16 = 13;
const DELSETELEM: u16 = 14;
pub const NEWGEN: u16 = 15;

pub const NFPROTO_INET: u8 = 1;

pub const NFTA_TABLE_NAME: u16 = 1;
pub const NFTA_TABLE_USERDATA: u16 = 6;
pub const NFTA_CHAIN_TABLE: u16 = 1;
pub const NFTA_CHAIN_NAME: u16 = 3;
pub const NFTA_CHAIN_HOOK: u16 = 4;
pub const NFTA_CHAIN_POLICY: u16 = 5;
pub const NFTA_CHAIN_USE: u16 = 6;
const NFTA_CHAIN_TYPE: u16 = 7;
pub const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
pub const NFTA_RULE_TABLE: u16 = 1;
pub const NFTA_RULE_CHAIN: u16 = 2;
pub const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_TYPE: u16 = 6;
const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_SET_DESC: u16 = 9;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_USERDATA: u16 = 13;
const NFTA_SET_DESC_CONCAT: u16 = 2;
const NFTA_SET_FIELD_LEN: u16 = 1;
pub const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
pub const NFTA_SET_ELEM_LIST_SET: u16 = 2;
pub const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
pub const NFTA_SET_ELEM_KEY: u16 = 1;
pub const NFTA_SET_ELEM_DATA: u16 = 2;
pub const NFTA_SET_ELEM_FLAGS: u16 = 3;
const NFTA_SET_ELEM_KEY_END: u16 = 10;
pub const NFTA_LIST_ELEM: u16 = 1;
const NFTA_DATA_VALUE: u16 = 1;

const SET_INTERVAL: u32 = 0x4;
const SET_MAP: u32 = 0x8;
const SET_CONCATENATED: u32 = 0x80;
const ELEMENT_INTERVAL_END: u32 = 1;

/// Of a comment that nft shows, in what is kept with a table for whoever made it.
const USERDATA_COMMENT: u8 = 0;

/// In which order the bytes of a set's keys are, in what is kept with it.
const USERDATA_KEY_ORDER: u8 = 0;
const ORDER_HOST: u32 = 1;
const ORDER_NETWORK: u32 = 2;

/// So many elements go in one message: the list's length is told in 16 bits, and an element takes less than 200 bytes.
const ELEMENTS_AT_ONCE: usize = 256;

/// Begins a message about packet filters of a family.
pub fn message(kind: u16, flags: u16, family: u8) -> Message {
    Message::new((SUBSYSTEM << 8) | kind, flags, &[family, 0, 0, 0])
}

/// What a message's kind says, if it is about packet filters.
pub fn kind_of(kind: u16) -> Option<u16> {
    (kind >> 8 == SUBSYSTEM).then_some(kind & 0xff)
}

/// Where packets meet a chain.
#[derive(Debug, Clone, Copy)]
pub struct Base {
    /// `filter` or `nat`
    pub kind: &'static str,
    /// The hook, by number.
    pub hook: u32,
    /// Lower ones are met first.
    pub priority: i32,
}

/// What is to be done to one table, all or nothing.
#[derive(Debug)]
pub struct Batch {
    table: &'static str,
    messages: Vec<Message>,
    sets: u32,
}

impl Batch {
    /// Begins one for the table `inet <table>`.
    pub fn new(table: &'static str) -> Self {
        let begin = Message::new(BEGIN, 0, &[0, 0, 0, SUBSYSTEM as u8]);
        Self { table, messages: vec![begin], sets: 0 }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.messages.len() == 1
    }

    /// The messages, complete.
    pub fn finish(mut self) -> Vec<Message> {
        self.messages.push(Message::new(END, 0, &[0, 0, 0, SUBSYSTEM as u8]));
        self.messages
    }

    fn put(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Message)) {
        let mut message = message(kind, flags, NFPROTO_INET);
        // The table's name has the same kind in all of them.
        message.put_text(NFTA_TABLE_NAME, self.table);
        fill(&mut message);
        self.messages.push(message);
    }

    /// The table, empty; what was in it goes.
    pub fn table(&mut self, comment: &str) {
        self.put(NEWTABLE, CREATE, |_| {});
        self.put(DELTABLE, 0, |_| {});
        self.put(NEWTABLE, CREATE, |m| m.put(NFTA_TABLE_USERDATA, &userdata(comment)));
    }

    /// A chain; without `base` only others lead to it.
    pub fn chain(&mut self, name: &str, base: Option<Base>) {
        self.put(NEWCHAIN, CREATE, |m| {
            m.put_text(NFTA_CHAIN_NAME, name);
            if let Some(base) = base {
                m.nest(NFTA_CHAIN_HOOK | NESTED, |m| {
                    m.put(NFTA_HOOK_HOOKNUM, &base.hook.to_be_bytes());
                    m.put(NFTA_HOOK_PRIORITY, &base.priority.to_be_bytes());
                });
                m.put(NFTA_CHAIN_POLICY, &1_u32.to_be_bytes());
                m.put_text(NFTA_CHAIN_TYPE, base.kind);
            }
        });
    }

    /// A rule at the end of a chain.
    pub fn rule(&mut self, chain: &str, rule: &Rule) {
        self.put(NEWRULE, CREATE | APPEND, |m| {
            m.put_text(NFTA_RULE_CHAIN, chain);
            rule.put(m, NFTA_RULE_EXPRESSIONS);
        });
    }

    /// A set or map, empty.
    pub fn set(&mut self, set: &Set) {
        self.sets += 1;
        let id = self.sets;
        let concatenated = set.interval && set.key.len() > 1;
        let mut flags = 0;
        for (on, flag) in
            [(set.interval, SET_INTERVAL), (!set.data.is_empty(), SET_MAP), (concatenated, SET_CONCATENATED)]
        {
            flags |= if on { flag } else { 0 };
        }
        self.put(NEWSET, CREATE, |m| {
            let mut number = |kind, value: u32| m.put(kind, &value.to_be_bytes());
            number(NFTA_SET_FLAGS, flags);
            number(NFTA_SET_KEY_TYPE, type_of(set.key));
            number(NFTA_SET_KEY_LEN, size_of(set.key) as u32);
            if !set.data.is_empty() {
                number(NFTA_SET_DATA_TYPE, type_of(set.data));
                number(NFTA_SET_DATA_LEN, size_of(set.data) as u32);
            }
            number(NFTA_SET_ID, id);
            m.put_text(NFTA_SET_NAME, set.name);
            // Without this nft shows names of devices as if they were numbers.
            let order: u32 = if set.key == [Type::Name] { ORDER_HOST } else { ORDER_NETWORK };
            m.put(NFTA_SET_USERDATA, &[&[USERDATA_KEY_ORDER, 4][..], &order.to_ne_bytes()].concat());
            if concatenated {
                m.nest(NFTA_SET_DESC | NESTED, |m| describe(m, set.key));
            }
        });
    }

    /// Adds to a set; what is there already is no harm, but something else at the same key is refused.
    pub fn add(&mut self, set: &Set, elements: &[Element]) {
        self.elements(NEWSETELEM, CREATE, set, elements);
    }

    /// Removes from a set; what is not there is no harm, which older kernels cannot be told otherwise than by adding it first.
    pub fn remove(&mut self, set: &Set, elements: &[Element]) {
        self.add(set, elements);
        self.elements(DELSETELEM, 0, set, elements);
    }

    fn elements(&mut self, kind: u16, flags: u16, set: &Set, elements: &[Element]) {
        for some in elements.chunks(ELEMENTS_AT_ONCE) {
            self.put(kind, flags, |m| {
                m.put_text(NFTA_SET_ELEM_LIST_SET, set.name);
                m.nest(NFTA_SET_ELEM_LIST_ELEMENTS | NESTED, |m| {
                    for element in some {
                        m.nest(NFTA_LIST_ELEM | NESTED, |m| put_element(m, element));
                    }
                });
            });
        }
    }
}

fn put_element(message: &mut Message, element: &Element) {
    let mut data = |kind: u16, value: &[u8]| message.nest(kind | NESTED, |m| m.put(NFTA_DATA_VALUE, value));
    data(NFTA_SET_ELEM_KEY, &element.key);
    if let Some(until) = &element.until {
        data(NFTA_SET_ELEM_KEY_END, until);
    }
    if let Some(found) = &element.data {
        data(NFTA_SET_ELEM_DATA, found);
    }
    if element.end {
        message.put(NFTA_SET_ELEM_FLAGS, &ELEMENT_INTERVAL_END.to_be_bytes());
    }
}

/// The number of several types beside each other has six bits for each.
fn type_of(types: &[Type]) -> u32 {
    types.iter().fold(0, |number, one| (number << 6) | *one as u32)
}

/// How long each part of a key is.
fn describe(message: &mut Message, key: &[Type]) {
    message.nest(NFTA_SET_DESC_CONCAT | NESTED, |m| {
        for part in key {
            m.nest(NFTA_LIST_ELEM | NESTED, |m| {
                m.put(NFTA_SET_FIELD_LEN, &(part.bytes() as u32).to_be_bytes());
            });
        }
    });
}

/// A comment as nft keeps it with a table.
pub fn userdata(comment: &str) -> Vec<u8> {
    let text = comment.as_bytes();
    let text = &text[..text.len().min(usize::from(u8::MAX) - 1)];
    [&[USERDATA_COMMENT, text.len() as u8 + 1][..], text, &[0]].concat()
}

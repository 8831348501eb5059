//! DNS messages (RFC 1035, 6891): as much as is needed to answer for containers, and to hand on the rest as it is.
//!
//! Queries for other names go to the servers outside byte for byte, and so do their answers back. So of a message only the header, the
//! question and the places of the records are read; no record's content is ever decoded, no pointer is followed, nothing is allocated.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The length of a message's header.
pub const HEADER: usize = 12;
/// The longest answer in a datagram to who does not say that it takes more (RFC 1035, 4.2.1).
pub const PLAIN_MAX: usize = 512;
/// The longest answer in a datagram, whatever the other side says it takes, and what we say that we take: beyond, TCP is the better way.
pub const DATAGRAM_MAX: usize = 4096;
/// The longest query: one question, and a few options beside it.
pub const QUERY_MAX: usize = 4096;
/// The longest name as text: 255 bytes on the wire, without the first length and the root's.
pub const TEXT_MAX: usize = 253;

const LABEL_MAX: usize = 63;
const WIRE_NAME_MAX: usize = 255;
/// The two high bits of a length that is none, but a pointer to a name that was there before.
const POINTER: u8 = 0xC0;
/// A pointer to the question's name.
const TO_QUESTION: [u8; 2] = [POINTER, HEADER as u8];
/// Type, class, time to live and length of what follows a record's name.
const FIXED: usize = 10;
/// An `OPT` record without options.
const OPT_LENGTH: usize = 1 + FIXED;
/// The least that the start of a zone has: two names and five numbers.
const SOA_LENGTH: usize = 1 + 1 + 5 * 4;

/// Types of records.
pub mod kind {
    /// An IPv4 address.
    pub const A: u16 = 1;
    /// Where a zone begins, and how long it is known that something is not there.
    pub const SOA: u16 = 6;
    /// The name of an address.
    pub const PTR: u16 = 12;
    /// An IPv6 address.
    pub const AAAA: u16 = 28;
    /// No record, but what the extended protocol has to say.
    pub const OPT: u16 = 41;
    /// Signatures for what is said to one another: whatever holds one is nobody else's.
    pub const TSIG: u16 = 250;
    /// A zone's changes.
    pub const IXFR: u16 = 251;
    /// A whole zone.
    pub const AXFR: u16 = 252;
    /// Everything there is.
    pub const ANY: u16 = 255;
}

/// The Internet.
pub const CLASS_IN: u16 = 1;
const CLASS_ANY: u16 = 255;

/// What became of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Answered, if only with nothing.
    Fine = 0,
    /// Not understood.
    Format = 1,
    /// Nobody who could have known gave an answer.
    Failure = 2,
    /// There is no such name.
    NoName = 3,
    /// Something that is not done here.
    NotDone = 4,
    /// Something that is not done for this one.
    Refused = 5,
}

/// Why a message is no query that could be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// It gets no answer: too short for one, or an answer itself.
    Silent,
    /// It is told so, by its header alone.
    Told(Code),
}

/// What a query says about the extended protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extended {
    /// The longest datagram it takes.
    pub size: u16,
    /// The version; there is only 0.
    pub version: u8,
    /// Whether it wants signatures.
    pub signatures: bool,
    /// Whether it says more, which is for the server outside alone.
    pub options: bool,
}

/// One question.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    message: &'a [u8],
    /// Where the question ends.
    end: usize,
    /// The type of what is asked for.
    pub kind: u16,
    /// The class of it.
    pub class: u16,
    /// The extended protocol, if it speaks it.
    pub extended: Option<Extended>,
    /// Whether it has other records than that.
    pub more: bool,
}

impl<'a> Query<'a> {
    /// Reads one.
    pub fn read(message: &'a [u8]) -> Result<Self, Unfit> {
        // What is an answer is never answered: two servers would talk for ever.
        if message.len() < HEADER || message[2] & 0x80 != 0 {
            return Err(Unfit::Silent);
        }
        if message.len() > QUERY_MAX {
            return Err(Unfit::Told(Code::Format));
        }
        if (message[2] >> 3) & 0xF != 0 {
            return Err(Unfit::Told(Code::NotDone));
        }
        let malformed = Unfit::Told(Code::Format);
        let [questions, answers, authorities, additional] = counts(message);
        if questions != 1 || answers != 0 {
            return Err(malformed);
        }
        let end = plain_name(message, HEADER).ok_or(malformed)?;
        let kind = number(message, end).ok_or(malformed)?;
        let class = number(message, end + 2).ok_or(malformed)?;
        let mut query = Self { message, end: end + 4, kind, class, extended: None, more: false };
        let mut records =
            Records { message, at: query.end, left: u32::from(authorities) + u32::from(additional) };
        for record in &mut records {
            let record = record.ok_or(malformed)?;
            if record.kind != kind::OPT {
                query.more = true;
                continue;
            }
            // There is one at most, and its name is the root's.
            if query.extended.is_some() || message[record.name] != 0 {
                return Err(malformed);
            }
            query.extended = Some(Extended {
                size: record.class,
                version: message[record.ttl + 1],
                signatures: message[record.ttl + 2] & 0x80 != 0,
                options: record.length > 0,
            });
        }
        Ok(query)
    }

    /// The whole message.
    pub fn message(&self) -> &'a [u8] {
        self.message
    }

    /// The question: name, type and class.
    pub fn question(&self) -> &'a [u8] {
        &self.message[HEADER..self.end]
    }

    /// Whether it is about the Internet, as nearly all are.
    pub fn is_internet(&self) -> bool {
        matches!(self.class, CLASS_IN | CLASS_ANY)
    }

    /// Whether it wants only what was verified, or what was not as well: the bit is the asker's to set.
    pub fn unchecked(&self) -> bool {
        self.message[3] & 0x10 != 0
    }

    /// The name as text in lower case, without the last dot; `None` if no name of ours could be like it.
    pub fn text<'t>(&self, text: &'t mut [u8; TEXT_MAX]) -> Option<&'t str> {
        let (mut at, mut length) = (HEADER, 0);
        loop {
            let label = usize::from(self.message[at]);
            if label == 0 {
                break;
            }
            if length > 0 {
                text[length] = b'.';
                length += 1;
            }
            for byte in &self.message[at + 1..at + 1 + label] {
                if !byte.is_ascii_graphic() || *byte == b'.' {
                    return None;
                }
                text[length] = byte.to_ascii_lowercase();
                length += 1;
            }
            at += 1 + label;
        }
        std::str::from_utf8(&text[..length]).ok()
    }

    /// How long an answer in a datagram may be.
    pub fn datagram_max(&self) -> usize {
        self.extended.map_or(PLAIN_MAX, |extended| usize::from(extended.size).clamp(PLAIN_MAX, DATAGRAM_MAX))
    }
}

/// The address that a name such as `2.0.18.172.in-addr.arpa` asks about.
pub fn reverse(text: &str) -> Option<IpAddr> {
    if let Some(digits) = text.strip_suffix(".in-addr.arpa") {
        let mut bytes = [0; 4];
        let mut parts = digits.split('.');
        for byte in bytes.iter_mut().rev() {
            let part = parts.next()?;
            // Neither signs nor zeros in front: one address has one name.
            if part.is_empty()
                || part.len() > 1 && part.starts_with('0')
                || !part.bytes().all(|b| b.is_ascii_digit())
            {
                return None;
            }
            *byte = part.parse().ok()?;
        }
        return parts.next().is_none().then(|| Ipv4Addr::from(bytes).into());
    }
    let digits = text.strip_suffix(".ip6.arpa")?;
    let mut parts = digits.split('.');
    let mut address = 0_u128;
    for place in 0..32 {
        let part = parts.next()?.as_bytes();
        let [digit] = part else { return None };
        let digit = char::from(*digit).to_digit(16)?;
        address |= u128::from(digit) << (4 * place);
    }
    parts.next().is_none().then(|| Ipv6Addr::from(address).into())
}

/// Appends a name as it stands in messages; `false`, and nothing, if it cannot.
fn put_name(out: &mut Vec<u8>, text: &str) -> bool {
    if !is_name(text) {
        return false;
    }
    for label in text.split('.') {
        out.push(u8::try_from(label.len()).unwrap_or_default());
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    true
}

/// Whether a text can be asked for at all.
pub fn is_name(text: &str) -> bool {
    text.len() <= TEXT_MAX
        && text.split('.').all(|label| {
            (1..=LABEL_MAX).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_graphic())
        })
}

/// An answer of ours, in the making.
#[derive(Debug)]
pub struct Answer<'o> {
    out: &'o mut Vec<u8>,
    limit: usize,
    extended: Option<Extended>,
    records: u16,
}

impl<'o> Answer<'o> {
    /// Begins one in `out`, no longer than `limit`.
    pub fn new(query: &Query<'_>, code: Code, limit: usize, out: &'o mut Vec<u8>) -> Self {
        begin(out, query.message, code);
        out[5] = 1;
        out.extend_from_slice(query.question());
        let room = if query.extended.is_some() { OPT_LENGTH } else { 0 };
        Self { out, limit: limit.saturating_sub(room), extended: query.extended, records: 0 }
    }

    /// Adds a record with the question's name; `false` if there was no room, which the answer then says.
    fn record(&mut self, kind: u16, ttl: u32, content: &[u8]) -> bool {
        let length = TO_QUESTION.len() + FIXED + content.len();
        let (Ok(size), Some(records)) = (u16::try_from(content.len()), self.records.checked_add(1)) else {
            return false;
        };
        if self.out.len() + length > self.limit {
            self.out[2] |= 0x02;
            return false;
        }
        self.records = records;
        self.out.extend_from_slice(&TO_QUESTION);
        self.out.extend_from_slice(&kind.to_be_bytes());
        self.out.extend_from_slice(&CLASS_IN.to_be_bytes());
        self.out.extend_from_slice(&ttl.to_be_bytes());
        self.out.extend_from_slice(&size.to_be_bytes());
        self.out.extend_from_slice(content);
        true
    }

    /// Adds an address; `false` if there was no room, which the answer then says.
    pub fn address(&mut self, address: IpAddr, ttl: u32) -> bool {
        match address {
            IpAddr::V4(v4) => self.record(kind::A, ttl, &v4.octets()),
            IpAddr::V6(v6) => self.record(kind::AAAA, ttl, &v6.octets()),
        }
    }

    /// Adds the name that an address has; `false` if there was no room or it can be no name.
    pub fn name(&mut self, name: &str, ttl: u32) -> bool {
        let mut content = Vec::with_capacity(name.len() + 2);
        put_name(&mut content, name) && self.record(kind::PTR, ttl, &content)
    }

    /// Ends it.
    pub fn end(self) {
        self.out[6..8].copy_from_slice(&self.records.to_be_bytes());
        if let Some(extended) = self.extended {
            self.out[11] = 1;
            put_extended(self.out, extended);
        }
    }
}

/// Our side of the extended protocol: a version that there is not is answered by the one that there is (RFC 6891, 6.1.3).
fn put_extended(out: &mut Vec<u8>, extended: Extended) {
    const BAD_VERSION_HIGH: u8 = 16 >> 4;
    let high = if extended.version == 0 { 0 } else { BAD_VERSION_HIGH };
    let signatures = if extended.signatures { 0x80 } else { 0 };
    out.push(0);
    out.extend_from_slice(&kind::OPT.to_be_bytes());
    out.extend_from_slice(&(DATAGRAM_MAX as u16).to_be_bytes());
    out.extend_from_slice(&[high, 0, signatures, 0, 0, 0]);
}

/// The header of an answer to `message`: that it is one, that more than our own names can be asked for, and what the asker said.
fn begin(out: &mut Vec<u8>, message: &[u8], code: Code) {
    out.clear();
    out.extend_from_slice(&message[..2]);
    // The kind of query and whether others may be asked stay as they were.
    out.push(0x80 | message[2] & 0x79);
    out.push(0x80 | message[3] & 0x10 | code as u8);
    out.extend_from_slice(&[0; 8]);
}

/// An answer to what could not be read: a header alone.
pub fn refuse(message: &[u8], code: Code, out: &mut Vec<u8>) {
    out.clear();
    if message.len() >= HEADER {
        begin(out, message, code);
    }
}

/// An answer from outside that is longer than the asker takes becomes one that says so: header and question alone.
pub fn shorten(reply: &[u8], query: &Query<'_>, out: &mut Vec<u8>) {
    Answer::new(query, Code::Fine, DATAGRAM_MAX, out).end();
    // Who gave it, and how sure it is of it.
    out[2] = reply[2] | 0x02;
    out[3] = reply[3];
}

/// Gives a message another number.
pub fn renumber(message: &mut [u8], id: [u8; 2]) {
    message[..2].copy_from_slice(&id);
}

/// What a server outside has answered.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a>(&'a [u8]);

impl<'a> Reply<'a> {
    /// Reads an answer to `question`, asked with the number `id`; `None` if it is none. A server that did not understand may leave the
    /// question out.
    pub fn read(message: &'a [u8], id: [u8; 2], question: &[u8]) -> Option<Self> {
        let is_answer = message.len() >= HEADER && message[2] & 0xF8 == 0x80 && message[..2] == id;
        if !is_answer {
            return None;
        }
        let reply = Self(message);
        let same = message.get(HEADER..HEADER + question.len());
        let matches = match counts(message)[0] {
            // A length is below every letter, so that case is ignored in letters alone.
            1 => same.is_some_and(|same| same.eq_ignore_ascii_case(question)),
            0 => !matches!(reply.code(), 0 | 3),
            _ => false,
        };
        matches.then_some(reply)
    }

    /// Whether it repeats the question.
    pub fn has_question(&self) -> bool {
        counts(self.0)[0] == 1
    }

    /// What became of the query.
    pub fn code(&self) -> u8 {
        self.0[3] & 0xF
    }

    /// Whether it was too long for a datagram.
    pub fn is_cut(&self) -> bool {
        self.0[2] & 0x02 != 0
    }

    /// Whether it is an answer, and no failure of the server's own: another might know more.
    pub fn is_final(&self) -> bool {
        matches!(self.code(), 0 | 3) && self.has_question()
    }

    /// For how many seconds it may be kept, by the records in it (RFC 2308 for what is not there); `None` if not at all.
    pub fn lifetime(&self) -> Option<u32> {
        if self.is_cut() || !self.is_final() {
            return None;
        }
        let [_, answers, ..] = counts(self.0);
        let (mut least, mut start) = (u32::MAX, false);
        for record in self.records()? {
            let record = record?;
            match record.kind {
                kind::OPT => continue,
                kind::TSIG => return None,
                _ => {}
            }
            least = least.min(long(self.0, record.ttl)?);
            if record.kind == kind::SOA {
                // The last of its numbers. With fewer it is none, and what stands there is something else.
                let last = record.length.checked_sub(4).filter(|_| record.length >= SOA_LENGTH)?;
                least = least.min(long(self.0, record.data + last)?);
                start = true;
            }
        }
        let known = self.code() == 0 && answers > 0 || start;
        (known && least > 0).then_some(least)
    }

    fn records(&self) -> Option<Records<'a>> {
        let [questions, rest @ ..] = counts(self.0);
        let mut at = HEADER;
        for _ in 0..questions {
            at = name_end(self.0, at)? + 4;
        }
        Some(Records { message: self.0, at, left: rest.into_iter().map(u32::from).sum() })
    }
}

/// Makes a kept answer `seconds` older.
pub fn age(message: &mut [u8], seconds: u32) {
    let Some(records) = Reply(message).records() else { return };
    let records: Vec<Record> = records.flatten().collect();
    for record in records.into_iter().filter(|record| record.kind != kind::OPT) {
        let left = long(message, record.ttl).unwrap_or_default().saturating_sub(seconds);
        message[record.ttl..record.ttl + 4].copy_from_slice(&left.to_be_bytes());
    }
}

/// Where a record's parts are. All of it is within the message.
#[derive(Debug, Clone, Copy)]
struct Record {
    name: usize,
    kind: u16,
    class: u16,
    ttl: usize,
    data: usize,
    length: usize,
}

/// The records of a message, one after the other; `None` and then nothing where they do not fit in it.
#[derive(Debug)]
struct Records<'a> {
    message: &'a [u8],
    at: usize,
    left: u32,
}

impl Records<'_> {
    fn read(&self) -> Option<Record> {
        let fixed = name_end(self.message, self.at)?;
        let length = usize::from(number(self.message, fixed + 8)?);
        let data = fixed + FIXED;
        self.message.get(data..data + length)?;
        let kind = number(self.message, fixed)?;
        let class = number(self.message, fixed + 2)?;
        Some(Record { name: self.at, kind, class, ttl: fixed + 4, data, length })
    }
}

impl Iterator for Records<'_> {
    type Item = Option<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let record = self.read();
        match record {
            Some(record) => self.at = record.data + record.length,
            None => self.left = 0,
        }
        Some(record)
    }
}

/// How many questions, answers, authorities and additional records there are.
fn counts(message: &[u8]) -> [u16; 4] {
    [4, 6, 8, 10].map(|at| number(message, at).unwrap_or_default())
}

fn number(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*message.get(at..)?.first_chunk()?))
}

fn long(message: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*message.get(at..)?.first_chunk()?))
}

/// Where a name without pointers ends.
fn plain_name(message: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1 + length;
        if length > LABEL_MAX || at - start > WIRE_NAME_MAX {
            return None;
        }
        if length == 0 {
            return Some(at);
        }
    }
}

/// Where a name ends, in labels or in a pointer.
fn name_end(message: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let length = *message.get(at)?;
        if length & POINTER == POINTER {
            message.get(at + 1)?;
            return Some(at + 2);
        }
        at += 1 + usize::from(length);
        if usize::from(length) > LABEL_MAX || at - start > WIRE_NAME_MAX {
            return None;
        }
        if length == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
pub(super) mod tests;

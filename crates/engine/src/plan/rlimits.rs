//! `--ulimit`: the limits of one process.

use api::container::Ulimit;
use oci::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType as Type};

use super::built;
use crate::error::{Error, Result};

const NAMES: [(&str, Type); 16] = [
    ("as", Type::RlimitAs),
    ("core", Type::RlimitCore),
    ("cpu", Type::RlimitCpu),
    ("data", Type::RlimitData),
    ("fsize", Type::RlimitFsize),
    ("locks", Type::RlimitLocks),
    ("memlock", Type::RlimitMemlock),
    ("msgqueue", Type::RlimitMsgqueue),
    ("nice", Type::RlimitNice),
    ("nofile", Type::RlimitNofile),
    ("nproc", Type::RlimitNproc),
    ("rss", Type::RlimitRss),
    ("rtprio", Type::RlimitRtprio),
    ("rttime", Type::RlimitRttime),
    ("sigpending", Type::RlimitSigpending),
    ("stack", Type::RlimitStack),
];

/// The limits, one of each kind: the last one counts.
pub(super) fn convert(ulimits: &[Ulimit]) -> Result<Vec<PosixRlimit>> {
    let mut limits: Vec<PosixRlimit> = Vec::with_capacity(ulimits.len());
    for ulimit in ulimits {
        let Some((_, typ)) = NAMES.iter().find(|(name, _)| *name == ulimit.name) else {
            return Err(Error::invalid(format!("invalid ulimit type: {}", ulimit.name)));
        };
        let (soft, hard) = (bound(ulimit, ulimit.soft)?, bound(ulimit, ulimit.hard)?);
        if soft > hard {
            return Err(Error::invalid(format!(
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                ulimit.soft, ulimit.hard
            )));
        }
        limits.retain(|known| known.typ() != *typ);
        limits.push(built(PosixRlimitBuilder::default().typ(*typ).soft(soft).hard(hard).build())?);
    }
    Ok(limits)
}

/// -1 is no bound.
fn bound(ulimit: &Ulimit, value: i64) -> Result<u64> {
    match value {
        -1 => Ok(u64::MAX),
        value => u64::try_from(value)
            .map_err(|_| Error::invalid(format!("invalid value for ulimit {}: {value}", ulimit.name))),
    }
}

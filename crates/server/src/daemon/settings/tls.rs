//! What the daemon is told of TLS.

use std::path::PathBuf;

use super::{Error, File, Flags, Tls};

/// Decides on TLS from `--tls`, `--tlsverify` and the three files, as dockerd does.
pub(super) fn of(flags: &Flags, file: &File) -> Result<Option<Tls>, Error> {
    let verify = flags.tlsverify.or(file.tlsverify).unwrap_or(false);
    let wanted = verify || flags.tls.or(file.tls).unwrap_or(false);
    let authority = flags.tlscacert.clone().or(file.tlscacert.clone());
    let certificate = flags.tlscert.clone().or(file.tlscert.clone());
    let key = flags.tlskey.clone().or(file.tlskey.clone());
    if !wanted {
        return match authority.or(certificate).or(key) {
            Some(_) => {
                Err(Error::Usage("--tlscacert, --tlscert and --tlskey need --tls or --tlsverify".to_owned()))
            }
            None => Ok(None),
        };
    }
    let need = |path: Option<PathBuf>, flag: &str| {
        path.ok_or_else(|| Error::Usage(format!("TLS was asked for: name a file with {flag}")))
    };
    Ok(Some(Tls {
        certificate: need(certificate, "--tlscert")?,
        key: need(key, "--tlskey")?,
        client_authority: if verify { Some(need(authority, "--tlscacert")?) } else { authority },
    }))
}

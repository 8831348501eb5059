//! Who runs in a container: names turned into numbers by the container's own `/etc/passwd` and `/etc/group`.

use crate::containers::record::Identity;
use crate::error::{Error, Result};

/// Where users are.
pub const PASSWD: &str = "/etc/passwd";
/// Where groups are.
pub const GROUP: &str = "/etc/group";
/// Files with more than ten thousand users fit; what is larger is an attack.
pub const FILE_BYTES_MAX: u64 = 4 << 20;
/// The kernel takes more, but no image needs them.
const GROUPS_MAX: usize = 1024;
/// Beyond this, numbers wrap around somewhere.
const ID_MAX: i64 = (1 << 31) - 1;

struct User<'a> {
    name: &'a str,
    uid: i64,
    gid: i64,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: i64,
    members: &'a str,
}

/// Finds `user[:group]` (empty for root) and further groups, by name or number.
pub fn find(user: &str, further: &[String], passwd: &[u8], group: &[u8]) -> Result<Identity> {
    let passwd = String::from_utf8_lossy(passwd);
    let group = String::from_utf8_lossy(group);
    let (user_part, group_part) = user.split_once(':').unwrap_or((user, ""));

    let wanted = if user_part.is_empty() { Some(0) } else { user_part.parse::<i64>().ok() };
    let known = users(&passwd).find(|u| wanted.map_or(u.name == user_part, |uid| u.uid == uid));
    let (uid, mut gid) = match (&known, wanted) {
        (Some(known), _) => (number(known.uid)?, number(known.gid)?),
        (None, Some(uid)) => (number(uid)?, 0),
        (None, None) => {
            return Err(Error::invalid(format!(
                "unable to find user {user_part}: no matching entries in passwd file"
            )));
        }
    };

    let mut more: Vec<u32> = Vec::new();
    if group_part.is_empty() {
        if let Some(known) = &known {
            for g in groups(&group).filter(|g| g.members.split(',').any(|member| member == known.name)) {
                if more.len() < GROUPS_MAX {
                    more.push(number(g.gid)?);
                }
            }
        }
    } else {
        gid = group_number(group_part, &group)?;
    }
    for name in further {
        more.push(group_number(name, &group)?);
    }
    let mut seen = std::collections::HashSet::new();
    more.retain(|gid| seen.insert(*gid));
    if more.len() > GROUPS_MAX {
        return Err(Error::invalid(format!("too many groups: at most {GROUPS_MAX}")));
    }
    let home = known.map_or("/", |u| u.home);
    Ok(Identity { uid, gid, groups: more, home: if home.is_empty() { "/" } else { home }.to_owned() })
}

fn group_number(text: &str, group: &str) -> Result<u32> {
    if let Ok(gid) = text.parse::<i64>() {
        return number(gid);
    }
    match groups(group).find(|g| g.name == text) {
        Some(g) => number(g.gid),
        None => {
            Err(Error::invalid(format!("unable to find group {text}: no matching entries in group file")))
        }
    }
}

fn number(id: i64) -> Result<u32> {
    u32::try_from(id)
        .ok()
        .filter(|_| id <= ID_MAX)
        .ok_or_else(|| Error::invalid(format!("uids and gids must be in range 0-{ID_MAX}")))
}

fn users(text: &str) -> impl Iterator<Item = User<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(User { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
    })
}

fn groups(text: &str) -> impl Iterator<Item = Group<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(Group { name, gid, members: fields.next().unwrap_or_default() })
    })
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\n# no\nbad line\napp:x:100:101::/srv:/bin/sh\nbig:x:4294967296:0::/:/\n";
    const GROUPS: &[u8] = b"root:x:0:\nbin:x:1:root,app\nwheel:x:10:root\napp:x:101:\n";

    fn who(user: &str) -> Result<Identity> {
        find(user, &[], PASSWD, GROUPS)
    }

    #[test]
    fn names_and_numbers_are_found_as_docker_finds_them() {
        let root = Identity { uid: 0, gid: 0, groups: vec![1, 10], home: "/root".into() };
        assert_eq!(who("").unwrap(), root);
        assert_eq!(who("root").unwrap(), root);
        assert_eq!(who("0").unwrap(), root);
        assert_eq!(
            who("app").unwrap(),
            Identity { uid: 100, gid: 101, groups: vec![1], home: "/srv".into() }
        );
        assert_eq!(
            who("app:wheel").unwrap(),
            Identity { uid: 100, gid: 10, groups: vec![], home: "/srv".into() }
        );
        assert_eq!(who("7:8").unwrap(), Identity { uid: 7, gid: 8, groups: vec![], home: "/".into() });
        assert_eq!(who("7").unwrap().gid, 0);
        assert_eq!(find("app", &["wheel".into(), "55".into()], PASSWD, GROUPS).unwrap().groups, [1, 10, 55]);
        assert_eq!(find("", &[], b"", b"").unwrap().home, "/");
    }

    #[test]
    fn a_user_never_becomes_root_by_wrapping_around() {
        for odd in ["4294967296", "-1", "2147483648", "0:4294967296", "1:-1", "big", "9223372036854775807"] {
            let error = who(odd).unwrap_err().to_string();
            assert_eq!(error, "uids and gids must be in range 0-2147483647", "{odd}");
        }
        for unknown in ["nobody", "0x0", "99999999999999999999", " 0", "+"] {
            let error = who(unknown).unwrap_err().to_string();
            assert!(error.starts_with("unable to find user"), "{unknown}: {error}");
        }
        assert_eq!(
            who("app:nope").unwrap_err().to_string(),
            "unable to find group nope: no matching entries in group file"
        );
    }
}

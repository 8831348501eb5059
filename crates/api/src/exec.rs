//! Commands in running containers.

record! {
    /// The body of `POST /containers/{id}/exec`.
    pub struct CreateRequest {
        /// `user[:group]`; empty for the container's.
        pub user: String,
        /// Whether the command is confined hardly at all.
        pub privileged: bool,
        /// Whether it gets a terminal.
        pub tty: bool,
        /// Height and width of the terminal.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub console_size: Option<[u32; 2]>,
        /// Whether standard input is attached.
        pub attach_stdin: bool,
        /// Whether standard error is attached.
        pub attach_stderr: bool,
        /// Whether standard output is attached.
        pub attach_stdout: bool,
        /// The keys that detach; empty for `ctrl-p,ctrl-q`.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub detach_keys: String,
        /// `NAME=value` beside the container's.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub env: Vec<String>,
        /// The working directory; empty for the container's.
        pub working_dir: String,
    }
    apart {
        /// The command.
        #[serde(deserialize_with = "crate::null::words")]
        pub cmd: Option<Vec<String>>,
    }

    /// The answer to `POST /containers/{id}/exec`.
    pub struct CreateResponse {
        /// The command's id.
        pub id: String,
    }

    /// The body of `POST /exec/{id}/start`.
    pub struct StartRequest {
        /// Whether the answer is given at once and nothing attached.
        pub detach: bool,
        /// Whether it gets a terminal; as at creation.
        pub tty: bool,
        /// Height and width of the terminal.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub console_size: Option<[u32; 2]>,
    }

    /// The answer to `GET /exec/{id}/json`.
    pub struct Inspect {
        /// The command's id.
        #[serde(rename = "ID")]
        pub id: String,
        /// Whether it runs.
        pub running: bool,
        /// `null` until it has ended.
        pub exit_code: Option<i64>,
        /// What was asked for.
        pub process_config: ProcessConfig,
        /// Whether standard input is attached.
        pub open_stdin: bool,
        /// Whether standard error is attached.
        pub open_stderr: bool,
        /// Whether standard output is attached.
        pub open_stdout: bool,
        /// Whether it can be removed.
        pub can_remove: bool,
        /// The container.
        #[serde(rename = "ContainerID")]
        pub container_id: String,
    }
    apart {
        /// The keys that detach, one by one; `null` for the default ones.
        #[serde(serialize_with = "bytes::write", deserialize_with = "bytes::read")]
        pub detach_keys: Vec<u8>,
    }
    then {
        /// On the host; 0 where it does not run.
        pub pid: i64,
    }

    /// A command as it was asked for.
    pub struct ProcessConfig {
        /// Whether it has a terminal.
        #[serde(rename = "tty")]
        pub tty: bool,
        /// The program.
        #[serde(rename = "entrypoint")]
        pub entrypoint: String,
        /// Its arguments.
        #[serde(rename = "arguments")]
        pub arguments: Vec<String>,
        /// Whether it is confined hardly at all.
        #[serde(rename = "privileged", skip_serializing_if = "Option::is_none")]
        pub privileged: Option<bool>,
        /// The user.
        #[serde(rename = "user", skip_serializing_if = "String::is_empty")]
        pub user: String,
    }
}

/// Go writes a byte string as base64 in a JSON string, and one that was never made as an empty string.
mod bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    pub(super) fn write<S: Serializer>(bytes: &[u8], output: S) -> Result<S::Ok, S::Error> {
        let mut text = String::new();
        for part in bytes.chunks(3) {
            let word =
                part.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
            for place in 0..4 {
                if place > part.len() {
                    text.push('=');
                } else {
                    text.push(char::from(ALPHABET[(word >> (18 - 6 * place)) as usize & 63]));
                }
            }
        }
        output.serialize_str(&text)
    }

    pub(super) fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<u8>, D::Error> {
        let text = Option::<String>::deserialize(input)?.unwrap_or_default();
        let mut bytes = Vec::new();
        let (mut word, mut bits) = (0u32, 0);
        for symbol in text.bytes().filter(|symbol| *symbol != b'=') {
            let Some(value) = ALPHABET.iter().position(|candidate| *candidate == symbol) else {
                return Err(serde::de::Error::custom("illegal base64 data"));
            };
            word = word << 6 | value as u32;
            bits += 6;
            if bits >= 8 {
                bits -= 8;
                bytes.push((word >> bits) as u8);
                word &= (1 << bits) - 1;
            }
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_travel_as_base64() {
        for keys in [&[][..], &[16], &[16, 17], &[16, 17, 1], &[255, 254, 253, 252]] {
            let text =
                serde_json::to_string(&Inspect { detach_keys: keys.to_vec(), ..Inspect::default() }).unwrap();
            assert_eq!(serde_json::from_str::<Inspect>(&text).unwrap().detach_keys, keys);
        }
        let text = serde_json::to_value(Inspect { detach_keys: vec![16, 17], ..Inspect::default() }).unwrap();
        assert_eq!(text["DetachKeys"], "EBE=");
    }
}

//! What the fuzz targets do with their input: each function is one target, and panics on a broken promise.
//!
//! `cargo +nightly fuzz run <target>`; the same promises are in quick property tests of the crates.

/// Names of images: what parses has one canonical form, which parses to the same.
pub fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(reference) = oci::Reference::parse_familiar(text) {
        let again = oci::Reference::parse_familiar(&reference.to_string());
        assert_eq!(again.ok().as_ref(), Some(&reference));
        let again = oci::Reference::parse_familiar(&reference.familiar());
        assert_eq!(again.ok().as_ref(), Some(&reference));
        assert!(!reference.path().split('/').any(|part| part.is_empty() || part == "." || part == ".."));
    }
    let _ = oci::AnyReference::parse(text);
}

/// Digests: what parses is safe as part of a file name.
pub fn digest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(digest) = oci::Digest::parse(text) {
        assert_eq!(digest.as_str(), text);
        assert!(digest.hex().bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()));
        assert_eq!(digest.hex().len(), digest.algorithm().hex_len());
    }
}

/// Platforms: the canonical spelling is stable.
pub fn platform(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(platform) = oci::Platform::parse(text) {
        assert_eq!(platform.normalized(), platform);
        assert_eq!(platform.rank(&platform), Some(0));
    }
}

/// Manifests, indexes and image configurations: one meaning, or refused.
pub fn manifest(data: &[u8]) {
    use oci::image::{Document, ImageConfig, media_type};
    let plain = Document::parse(data, None);
    if let Ok(Document::Index(index)) = &plain {
        let _ = index.select(&oci::Platform::host());
    }
    if plain.is_ok() {
        // No document is good as a manifest and as an index.
        let manifest = Document::parse(data, Some(media_type::OCI_MANIFEST)).is_ok();
        let index = Document::parse(data, Some(media_type::OCI_INDEX)).is_ok();
        assert!(!(manifest && index));
    }
    let _ = ImageConfig::parse(data);
}

/// `/etc/passwd` and `/etc/group` of an image: no number that could wrap around.
pub fn users(data: &[u8]) {
    // The first line is the user that is asked for, the second is where the files are divided.
    let mut parts = data.splitn(3, |b| *b == 0);
    let (Some(user), Some(passwd), Some(group)) = (parts.next(), parts.next(), parts.next()) else { return };
    let Ok(user) = std::str::from_utf8(user) else { return };
    if let Ok(found) = engine::containers::identity::find(user, &[], passwd, group) {
        for id in found.groups.iter().chain([&found.uid, &found.gid]) {
            assert!(*id <= i32::MAX as u32);
        }
    }
}

/// `config.json`, and the compilation of its seccomp rules.
pub fn config(data: &[u8]) {
    let _ = oci::runtime::parse_process(data);
    if let Ok(spec) = oci::runtime::parse_spec(data)
        && let Some(seccomp) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref())
    {
        let _ = runtime::seccomp::compile(seccomp);
    }
}

/// Messages of D-Bus, as whoever is at systemd's socket may send them: what is read can be written, and is read again as the same.
pub fn dbus(data: &[u8]) {
    use runtime::dbus::{FIXED_BYTES, Message};
    if let Some(fixed) = data.first_chunk::<FIXED_BYTES>() {
        let _ = Message::length(fixed);
    }
    if let Ok(message) = Message::decode(data) {
        let bytes = message.encode().expect("what was read can be written");
        let again = Message::decode(&bytes).expect("what was written can be read");
        // Not by value: a number that is none is not equal to itself.
        assert_eq!(format!("{again:?}"), format!("{message:?}"));
    }
}

/// Docker's seccomp profiles: what compiles is a program that the kernel would take.
pub fn seccomp(data: &[u8]) {
    use runtime::capabilities::CapabilitySet;
    use runtime::seccomp::{Conditions, Machine, compile_for, parse_profile};
    for machine in [Machine::X86_64, Machine::Aarch64] {
        let conditions = Conditions { machine, kernel: (6, 1), capabilities: CapabilitySet::DEFAULT };
        if let Ok(Some(rules)) = parse_profile(data, &conditions)
            && let Ok(program) = compile_for(machine, &rules)
        {
            assert!(!program.is_empty() && program.len() <= sys::seccomp::INSTRUCTIONS_MAX);
            for (at, instruction) in program.iter().enumerate() {
                // Jumps go forward, and not beyond the end.
                if instruction.code & 7 == 5 {
                    let far = instruction.jt.max(instruction.jf) as usize;
                    let far = if instruction.code == 5 { instruction.k as usize } else { far };
                    assert!(at + 1 + far < program.len());
                }
            }
        }
    }
}

/// What a supervisor and a daemon say to each other.
pub fn frames(data: &[u8]) {
    use shim::wire::Frame;
    if let Ok(frame) = Frame::decode(data) {
        let mut bytes = Vec::new();
        if frame.encode(&mut bytes).is_ok() {
            assert_eq!(Frame::decode(&bytes).ok(), Some(frame));
        }
    }
}

/// Docker's frames of multiplexed output, and filters.
pub fn streams(data: &[u8]) {
    if let Some(header) = data.first_chunk::<{ api::stream::HEADER }>()
        && let Ok(read) = api::stream::Header::decode(*header)
    {
        assert_eq!(api::stream::Header::decode(read.encode()).ok(), Some(read));
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = api::detach::parse(text);
    }
}

/// Layers: whatever the archive says, nothing outside the directory is touched.
pub fn layer(data: &[u8]) {
    let Ok(outside) = tempfile::tempdir() else { return };
    let inside = outside.path().join("root");
    std::fs::create_dir(&inside).expect("an empty directory");
    std::fs::write(outside.path().join("canary"), b"canary").expect("an empty directory");
    let root = sys::path::Root::open(&inside).expect("the directory that was just made");
    let limits = storage::apply::Limits { bytes_max: 1 << 20, entries_max: 1000, ..Default::default() };
    let _ = storage::apply::apply(data, &root, &limits);
    assert_eq!(std::fs::read(outside.path().join("canary")).expect("the canary"), b"canary");
    assert_eq!(std::fs::read_dir(outside.path()).expect("the directory").count(), 2);
}

/// An archive for a tree that others use, as it is and with a new first name: nothing leads out, and what was asked for under one name
/// comes under no other.
pub fn transfer(data: &[u8]) {
    use storage::transfer::{Owner, Target, unpack};
    let Ok(outside) = tempfile::tempdir() else { return };
    std::fs::write(outside.path().join("canary"), b"canary").expect("an empty directory");
    for (name, rename) in [("whole", None), ("named", Some((&b"a"[..], &b"kept"[..])))] {
        let inside = outside.path().join(name);
        std::fs::create_dir(&inside).expect("an empty directory");
        let root = sys::path::Root::open(&inside).expect("the directory that was just made");
        let place = std::path::Path::new("");
        let target = Target { root: &root, place, rename, keep_kinds: false, owner: Owner::Own, tame: true };
        let limits = storage::Limits::default();
        let _ = storage::archive::open(data, &limits).and_then(|mut archive| unpack(&mut archive, &target));
        if rename.is_some() {
            let mut names = std::fs::read_dir(&inside).expect("the directory").flatten();
            assert!(names.all(|entry| entry.file_name() == "kept"));
        }
    }
    assert_eq!(std::fs::read(outside.path().join("canary")).expect("the canary"), b"canary");
    assert_eq!(std::fs::read_dir(outside.path()).expect("the directory").count(), 3);
}

/// Where a health check of the engine's own goes: some addresses, and what fits into one line of a request.
pub fn probe(data: &[u8]) {
    use engine::health::address::Address;
    let Ok(text) = std::str::from_utf8(data) else { return };
    for address in [Address::of_url(text), Address::of_socket(text)].into_iter().flatten() {
        assert!(!address.sockets.is_empty());
        assert!(!address.host.contains(|c: char| c.is_control() || c == ' '));
        assert!(!address.page.contains(|c: char| c.is_control() || c == ' '));
    }
}

/// What a container's init says to its creator.
pub fn wire(data: &[u8]) {
    drop(runtime::Message::parse(data));
}

/// Lines that a program in a container has a say in: its name is in `/proc/<pid>/stat`. And the line that names a first process.
pub fn proc(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = sys::proc::Stat::parse(text);
    let _ = runtime::state::Init::parse(text);
    // Whatever a program calls itself, the fields behind its name are the kernel's.
    let line = format!("7 ({text}) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0");
    assert_eq!(sys::proc::Stat::parse(&line).map(|stat| stat.start), Some(4711));
}

/// What containers ask for, and what servers outside answer: whatever a container is told is an answer to what it asked, and no longer than
/// it takes.
pub fn dns(data: &[u8]) {
    use network::dns::message::{self, Query, Reply};
    use network::dns::{Container, Name, Network, answer_alone};
    let addresses = ["10.0.0.2", "fd00::2"].map(|text| text.parse().expect("an address")).to_vec();
    let network =
        Network { id: "n".into(), domain: "x".into(), names: vec![Name { name: "a".into(), addresses }] };
    let mut container = Container {
        id: "c".into(),
        networks: vec!["n".into()],
        own: Vec::new(),
        outside: true,
        upstreams: vec![([127, 0, 0, 1], 53).into()],
    };
    for outside in [true, false] {
        container.outside = outside;
        let told = answer_alone(&container, std::slice::from_ref(&network), data);
        if let (Ok(query), Some(told)) = (Query::read(data), &told) {
            assert!(told.len() <= query.datagram_max());
            assert!(Reply::read(told, [data[0], data[1]], query.question()).is_some());
        }
        // Who may not ask outside is told so at once.
        assert!(outside || told.is_some() == (data.len() >= message::HEADER && data[2] & 0x80 == 0));
    }
    // The first byte says how much of it is the question that the rest is to be an answer to.
    let Some((length, rest)) = data.split_first() else { return };
    let (question, answer) = rest.split_at(rest.len().min((*length).into()));
    if let Some(id) = answer.first_chunk()
        && let Some(reply) = Reply::read(answer, *id, question)
    {
        let lifetime = reply.lifetime();
        let mut older = answer.to_vec();
        message::age(&mut older, 1);
        assert_eq!(older.len(), answer.len());
        // Nothing becomes good for longer by being kept.
        if let (Some(before), Some(reply)) = (lifetime, Reply::read(&older, *id, question)) {
            assert!(reply.lifetime().unwrap_or_default() <= before);
        }
    }
}

/// What a daemon and netd say to each other.
pub fn netd(data: &[u8]) {
    use network::netd::wire::{Reply, Request, encode, take};
    let mut bytes = data.to_vec();
    while let Ok(Some(request)) = take::<Request>(&mut bytes) {
        let _ = request.check();
        if let Ok(mut again) = encode(&request) {
            assert_eq!(take(&mut again).ok().flatten(), Some(request));
        }
    }
    let mut bytes = data.to_vec();
    while let Ok(Some(_)) = take::<Reply>(&mut bytes) {}
}

/// Settings of registries: `hosts.toml` and `registries.conf`, for a reference that is the first line.
pub fn hosts(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (reference, settings) = text.split_once('\n').unwrap_or(("r.example/a/b:1", &text));
    ::registry::client::fuzz_settings(settings, reference);
}

/// Policies, keys and what is signed.
pub fn policy(data: &[u8]) {
    ::registry::policy::fuzz_policy(data);
}

/// What a registry wants to see before it answers.
pub fn challenge(data: &[u8]) {
    ::registry::client::fuzz_challenge(&String::from_utf8_lossy(data));
}

/// What a registry's clients write: paths, ranges, credentials, tokens; and its administrator's files.
pub fn registry(data: &[u8]) {
    use ::registry::server::access::{basic, htpasswd, token::Tokens};
    use ::registry::server::{range, route};
    let Ok(text) = std::str::from_utf8(data) else { return };
    for path in [text.to_owned(), format!("/v2/{text}"), format!("/v2/{text}/blobs/uploads/")] {
        use route::Route;
        if let Ok(
            Route::Tags(name)
            | Route::Uploads(name)
            | Route::Manifest(name, _)
            | Route::Blob(name, _)
            | Route::Upload(name, _)
            | Route::Referrers(name, _),
        ) = route::parse(&path)
        {
            assert!(route::is_name(&name) && !name.split('/').any(|part| part.is_empty() || part == ".."));
        }
    }
    for size in [0, 1, 10, u64::MAX] {
        if let range::Wanted::Part(first, last) = range::wanted(Some(text), size) {
            assert!(first <= last && last < size);
        }
    }
    if let Some((first, last)) = range::sent(text) {
        assert!(first <= last);
    }
    if let Ok(users) = htpasswd::parse(text) {
        assert!(users.keys().all(|name| !name.is_empty() && !name.contains(':')));
    }
    let _ = basic(text);
    assert!(Tokens::new("realm", "service", "issuer", ::registry::keys::keys(text)).verify(text).is_err());
}

/// What archives of images say of what is in them: names stay inside, links end.
pub fn archive(data: &[u8]) {
    use engine::images::load::documents;
    let inside = |path: &str| !path.starts_with('/') && !path.split('/').any(|part| part == "..");
    if let Ok(path) = documents::path(data) {
        assert!(inside(&path));
        if let Ok(Some(digest)) = documents::blob(&path) {
            assert_eq!(path, format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex()));
        }
    }
    // The first byte divides a link's name from its target.
    if let Some((length, rest)) = data.split_first() {
        let (name, target) = rest.split_at(rest.len().min((*length).into()));
        if let Ok(name) = documents::path(name)
            && let Ok(target) = documents::link(&name, target)
        {
            assert!(inside(&target));
            let links = [(name.clone(), target.clone()), (target, name.clone())].into();
            assert_eq!(documents::follow::<()>(&name, &links, &Default::default()), None);
        }
    }
    let _ = documents::layout(data);
    if let Ok(entries) = documents::docker(data) {
        assert!(!entries.is_empty());
    }
    if let Ok(index) = documents::index(data) {
        for entry in &index.manifests {
            let _ = documents::annotated(&entry.annotations);
        }
    }
}

/// Instructions that change an image's configuration: what is taken stays in bounds.
pub fn instructions(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut config = oci::image::ContainerConfig::default();
    if engine::instructions::apply(&mut config, &[text.to_owned()]).is_ok() {
        assert!(config.exposed_ports.keys().all(|port| port.contains('/')));
        assert!(config.working_dir.is_empty() || config.working_dir.starts_with('/'));
    }
}

/// Descriptions of devices (CDI), in JSON and YAML: what is read names no place outside, and every device is found again.
pub fn cdi(data: &[u8]) {
    let Ok(spec) = engine::cdi::Spec::parse(data) else { return };
    let names = spec.names();
    assert!(!names.is_empty());
    for name in &names {
        let (kind, device) = name.split_once('=').expect("a full name");
        assert!(kind.contains('/') && !device.is_empty());
        let edits = spec.device(name).expect("a device of the description");
        for edits in [edits, &spec.container_edits] {
            assert!(edits.env.iter().all(|variable| variable.contains('=')));
            assert!(edits.mounts.iter().all(|mount| mount.container_path.starts_with('/')));
            assert!(edits.hooks.iter().all(|hook| hook.path.is_absolute()));
        }
    }
}

/// What a volume driver answers: an answer of bounded length, or refused.
pub fn plugin(data: &[u8]) {
    if let Ok(answer) = engine::volumes::plugin::http::answer(&mut &data[..]) {
        assert!(answer.body.len() <= data.len());
    }
}

/// Lines of a log on their way to a receiver, and what they are called there.
pub fn logging(data: &[u8]) {
    use engine::logging::entry::Entry;
    use engine::logging::tag::{Subject, Template};
    if let Some(entry) = Entry::parse(data) {
        assert!(entry.text.len() <= data.len() * 3);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(template) = Template::parse(text) {
        let subject = Subject { id: "a".repeat(64), ..Subject::default() };
        assert!(template.render(&subject).len() <= 8192);
    }
}

/// Dockerfiles: a tree for whatever is read, every place inside of the text, and no letter in what is shown that moves the cursor.
pub fn dockerfile(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parsed = build::parse(text);
    let source = build::Source::new(text);
    let request = build::stages::Request::default();
    let (stages, mut found) = build::stages::resolve(&parsed.dockerfile, &request);
    assert!(stages.order.iter().all(|stage| *stage < stages.list.len()));
    let options = build::check::Options::of(&parsed.dockerfile, &request.arguments).unwrap_or_default();
    let input = build::check::Input {
        file: &parsed.dockerfile,
        stages: &stages,
        request: &request,
        ignore: None,
        image: &|_| None,
    };
    found.extend(build::check::check(&input, &options).warnings);
    found.extend(parsed.diagnostics.iter().cloned());
    for diagnostic in &found {
        assert!(diagnostic.span.start <= diagnostic.span.end && diagnostic.span.end <= text.len());
        let shown = diagnostic.render(&source, "Dockerfile");
        assert!(shown.chars().all(|letter| letter == '\n' || !letter.is_control()));
    }
    for instruction in &parsed.dockerfile.instructions {
        assert!(instruction.span.end <= text.len() && instruction.name.span.end <= text.len());
    }
}

/// Dockerfiles that include each other: files are divided by a NUL, and called `0`, `1` and so on; the first is the Dockerfile. It comes to
/// an end, what comes of it is bounded, and every place is in the file that it is told of.
pub fn include(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut texts = text.split('\0');
    let main = build::Document::new("Dockerfile", texts.next().unwrap_or_default());
    let given: Vec<&str> = texts.collect();
    let mut files = build::include::Files::new();
    let document = loop {
        match build::include::assemble(&main, &files) {
            Err(told) => {
                assert!(told.chars().all(|letter| letter == '\n' || !letter.is_control()));
                return;
            }
            Ok(build::include::Assembled::Whole(document)) => break document,
            Ok(build::include::Assembled::Wants(paths)) => {
                assert!(!paths.is_empty() && paths.len() <= build::include::COUNT_MAX);
                for path in paths {
                    assert!(
                        !path.starts_with('/')
                            && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
                    );
                    let text = path.parse::<usize>().ok().and_then(|number| given.get(number));
                    let text =
                        text.map(|text| (*text).to_owned()).ok_or_else(|| "it is not there".to_owned());
                    assert!(files.insert(path, text).is_none(), "nothing is asked for twice");
                }
            }
        }
    };
    let source = document.source();
    let parsed = build::parse_document(&document);
    for diagnostic in &parsed.diagnostics {
        let shown = diagnostic.render(&source, "Dockerfile");
        assert!(shown.chars().all(|letter| letter == '\n' || !letter.is_control()));
    }
    for instruction in &parsed.dockerfile.instructions {
        // It may begin with a line that only goes on.
        let place = source.place(instruction.name.span);
        let line = source.line(place.file, place.start.line).expect("the line of an instruction");
        let rest: String = line.chars().skip(place.start.column - 1).collect();
        let first: String = instruction.name.text.chars().take(1).collect();
        assert!(rest.starts_with(&first), "{rest:?} {:?}", instruction.name);
    }
}

/// Words with variables: the first byte says how they are read, and what they grow to has an end.
pub fn expand(data: &[u8]) {
    use build::expand::{Environment, Lexer, Quotes};
    let Some((how, rest)) = data.split_first() else { return };
    let Ok(word) = std::str::from_utf8(rest) else { return };
    let quotes = [Quotes::Remove, Quotes::Keep, Quotes::Plain][usize::from(how & 3) % 3];
    let escape = if how & 4 == 0 { '\\' } else { '`' };
    let lexer = Lexer { quotes, keep_escapes: how & 8 != 0, keep_unset: how & 16 != 0, ..Lexer::new(escape) };
    let variables = Environment::from_entries(["a=value", "b=", "c=a/b.c.d", "d=one two\nthree"]);
    if let Ok(done) = lexer.process(word, &variables) {
        assert!(done.text.len() <= (word.len() + (1 << 20)) * 2);
        assert!(done.words.iter().all(|word| !word.is_empty()));
        assert!(done.matched.iter().all(|name| variables.get(name).is_some()));
    }
}

/// Patterns and paths, divided by the first zero: a walk says what asking for the path says.
pub fn ignore(data: &[u8]) {
    use build::ignore::{Above, Glob, Ignore, clean};
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (patterns, path) = text.split_once('\0').unwrap_or((text, "a/b/c"));
    if let Ok(glob) = Glob::parse(patterns) {
        let _ = glob.matches(path);
    }
    let path = clean(path);
    assert_eq!(clean(&path), path);
    let Ok(ignore) = Ignore::parse(patterns) else { return };
    let path = path.trim_start_matches('/');
    let mut above = Above::default();
    let mut hidden = false;
    for end in path.match_indices('/').map(|(at, _)| at).chain([path.len()]) {
        let (found, next) = ignore.hides_below(&path[..end], &above);
        hidden = found.is_some();
        above = next;
    }
    assert_eq!(hidden, ignore.hides(path).is_some());
}

/// Files that a client sends for a build: whatever the packets are, nothing is made outside the directory.
pub fn filesync(data: &[u8]) {
    use bollard_buildkit_proto::fsutil::types::Packet;
    use prost::Message as _;
    let Ok(world) = tempfile::tempdir() else { return };
    let (inside, canary) = (world.path().join("inside"), world.path().join("canary"));
    if std::fs::create_dir(&inside).is_err() || std::fs::write(&canary, "canary").is_err() {
        return;
    }
    let Ok(dir) = sys::fsx::open_dir(&inside) else { return };
    let Ok(mut tree) = buildkit::filesync::Tree::new(dir) else { return };
    let mut rest = data;
    while !rest.is_empty() {
        let Ok(packet) = Packet::decode_length_delimited(&mut rest) else { break };
        if tree.take(packet).is_err() {
            break;
        }
    }
    assert_eq!(std::fs::read(&canary).ok().as_deref(), Some(&b"canary"[..]));
    assert_eq!(std::fs::read_dir(world.path()).map(Iterator::count).ok(), Some(2));
}

/// Requests of BuildKit's gateway, and the headers of sessions: what is read of them is within its bounds, and the same each time.
pub fn gateway(data: &[u8]) {
    use bollard_buildkit_proto::moby::buildkit::v1::frontend::SolveRequest;
    use prost::Message as _;
    if let Ok(request) = SolveRequest::decode(data) {
        let read = || buildkit::said::frontend(&request.frontend, &request.frontend_opt);
        assert_eq!(format!("{:?}", read()), format!("{:?}", read()));
    }
    // The same without the wire's words, which are seldom hit.
    let text = String::from_utf8_lossy(data);
    let options = text.split('\0').filter_map(|option| option.split_once('='));
    let options = options.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let _ = buildkit::said::frontend("dockerfile.v0", &options.collect());
    let mut headers = http::HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) =
            (http::HeaderName::from_bytes(&line[..colon]), http::HeaderValue::from_bytes(&line[colon + 1..]));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    if let Ok(introduction) = buildkit::said::introduction(&headers) {
        assert!(!introduction.id().is_empty() && introduction.id().len() <= 4096);
    }
    let _ = buildkit::said::ask(headers);
}

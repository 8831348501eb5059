//! Files of a result, as a client reads them through the gateway.

use std::fs;

use bollard_buildkit_proto::moby::buildkit::v1::frontend::{
    FileRange, ReadDirRequest, ReadFileRequest, SolveRequest as GatewaySolve, StatFileRequest,
};
use tonic::Code;

use crate::{dockerfile, of_build, options, solve};

#[tokio::test]
async fn files_of_a_result_are_read() {
    let world = dockerfile("FROM scratch\nCOPY . /\n");
    let context = world.context();
    fs::write(context.join("release"), "0123456789").unwrap();
    fs::write(context.join("other"), "").unwrap();
    let client = world.client("key").await;
    let (mut control, request) = (client.control(), solve(&client));
    let solving = tokio::spawn(async move { control.solve(request).await });
    let mut gateway = client.gateway();
    let asked = GatewaySolve {
        frontend: "dockerfile.v0".to_owned(),
        frontend_opt: options(&[("filename", "Dockerfile")]),
        ..GatewaySolve::default()
    };
    let name = gateway.solve(of_build(asked)).await.unwrap().into_inner().r#ref;

    let file = |path: &str, range: Option<(i64, i64)>| {
        let range = range.map(|(offset, length)| FileRange { offset, length });
        of_build(ReadFileRequest { r#ref: name.clone(), file_path: path.to_owned(), range, mount_index: 0 })
    };
    for (path, range, content) in [
        ("/release", None, "0123456789"),
        ("/../release", None, "0123456789"),
        ("release", Some((3, 4)), "3456"),
        ("release", Some((8, 1 << 40)), "89"),
        ("release", Some((99, 1)), ""),
        ("release", Some((0, 0)), ""),
    ] {
        let data = gateway.read_file(file(path, range)).await.unwrap().into_inner().data;
        assert_eq!(String::from_utf8(data).unwrap(), content, "{path} {range:?}");
    }
    for (path, range, code) in [
        ("nothing", None, Code::NotFound),
        ("/", None, Code::Unknown),
        ("release", Some((-1, 1)), Code::InvalidArgument),
    ] {
        assert_eq!(gateway.read_file(file(path, range)).await.unwrap_err().code(), code, "{path}");
    }

    let dir = |path: &str, pattern: &str| {
        let (dir_path, include_pattern) = (path.to_owned(), pattern.to_owned());
        of_build(ReadDirRequest { r#ref: name.clone(), dir_path, include_pattern, mount_index: 0 })
    };
    let entries = gateway.read_dir(dir("/", "")).await.unwrap().into_inner().entries;
    let names: Vec<_> = entries.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(names, ["Dockerfile", "other", "release"]);
    assert!(entries[1].mode & (1 << 31) == 0, "{entries:?}");
    let entries = gateway.read_dir(dir("", "rel*")).await.unwrap().into_inner().entries;
    assert_eq!(
        entries.iter().map(|one| (one.path.as_str(), one.size)).collect::<Vec<_>>(),
        [("release", 10)]
    );
    assert!(gateway.read_dir(dir("release", "")).await.is_err());

    let stat = |path: &str, mount_index: i32| {
        of_build(StatFileRequest { r#ref: name.clone(), path: path.to_owned(), mount_index })
    };
    let about = gateway.stat_file(stat("/release", 0)).await.unwrap().into_inner().stat.unwrap();
    assert_eq!((about.path.as_str(), about.size, about.mode & (1 << 31)), ("release", 10, 0));
    assert_eq!(gateway.stat_file(stat("nothing", 0)).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(gateway.stat_file(stat("release", 1)).await.unwrap_err().code(), Code::Unimplemented);
    let other = StatFileRequest { r#ref: "result-9".to_owned(), path: "x".to_owned(), mount_index: 0 };
    assert_eq!(gateway.stat_file(of_build(other)).await.unwrap_err().code(), Code::NotFound);
    solving.abort();
}

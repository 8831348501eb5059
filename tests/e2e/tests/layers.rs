//! Many layers: as they are mounted depends on the kernel, what is seen does not.

use kit::{Host, fixtures};

#[test]
fn an_image_of_sixty_layers_runs() {
    let host = Host::new();
    host.give(&fixtures::many_layers(60), "many");
    let script = "cat /n; ls -d /file-* | wc -l; echo new >/file-59; cat /file-59; cat /file-1";
    let output = host.corten(["run", "--network", "none", "--name", "deep", "many", "sh", "-c", script]).ok();
    assert_eq!(output, "5959\nnew\n1");
    // A second start finds what the first one wrote.
    assert_eq!(host.corten(["start", "-a", "deep"]).ok(), "5959\nnew\n1");
}

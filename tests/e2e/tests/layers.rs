//! Many layers: as they are mounted depends on the kernel, what is seen does not.

use kit::fixtures::{Entry, Layer, Packing};
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

#[test]
fn a_layer_counts_twice_where_an_image_has_it_twice() {
    let host = Host::new();
    let mut image = fixtures::busybox();
    let layer = |entries: &[Entry]| Layer::new(entries, Packing::Gzip);
    let twice = layer(&[Entry::dir("d"), Entry::file("d/f", "first\n")]);
    let between = layer(&[Entry::dir("d"), Entry::file("d/f", "second\n"), Entry::file("d/g", "third\n")]);
    image.layers.extend([twice.clone(), twice.clone(), between, twice]);
    host.give(&image, "twice");
    let script = "cat /d/f /d/g; echo new >/d/h; ls /d";
    let output = host.corten(["run", "--rm", "--network", "none", "twice", "sh", "-c", script]).ok();
    assert_eq!(output, "first\nthird\nf\ng\nh");
}

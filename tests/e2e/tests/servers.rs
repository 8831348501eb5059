//! Servers that people run, as Debian has them, served through published ports and found by their names.

use kit::fixtures::{self, Packing};
use kit::{CLIS, Host, wait_for};

/// Starts a database whose data are on tmpfs, and that trusts everybody.
const DATABASE: &str = "chown postgres /data && exec setpriv --reuid=postgres --regid=postgres --clear-groups sh -c '\
    PATH=$PATH:/usr/lib/postgresql/15/bin; initdb -D /data/db -A trust >/dev/null && \
    echo host all all all trust >> /data/db/pg_hba.conf && \
    exec postgres -D /data/db -h \"*\" -c unix_socket_directories=/data'";

#[test]
fn nginx_and_postgresql_serve_a_neighbour_the_host_and_containers() {
    let host = Host::new();
    host.give(&fixtures::debian_with("nginx-light,postgresql", Packing::Zstd), "servers");
    let host = host.set_apart();
    let peer = host.neighbour("192.0.2");
    for cli in CLIS {
        host.cli(cli, ["network", "create", "--ipv6", "shop"]).ok();
        let web = ["run", "-d", "--name", "web", "--network", "shop", "-p", "8080:80", "servers"];
        host.cli(cli, web.iter().chain(&["nginx", "-g", "daemon off;"])).ok();
        let db = [
            "run",
            "-d",
            "--name",
            "db",
            "--network",
            "shop",
            "-p",
            "5432:5432",
            "--tmpfs",
            "/data",
            "servers",
        ];
        host.cli(cli, db.iter().chain(&["sh", "-c", DATABASE])).ok();

        let page = |at: &str| {
            let url = format!("http://{at}:8080/");
            ["-sS", "--fail", "--max-time", "10", &url].map(str::to_owned)
        };
        wait_for("nginx", || (host.program("curl", page("127.0.0.1")).run().code == 0).then_some(()));
        let six = "[fd00:192:0:2::1]";
        for at in ["192.0.2.1", six] {
            let said = peer.program("curl", page(at)).ok();
            assert!(said.contains("Welcome to nginx!"), "{at}: {said}");
        }
        assert!(host.program("curl", page("192.0.2.1")).ok().contains("Welcome to nginx!"));
        // It saw who asked.
        let log = host.cli(cli, ["exec", "web", "cat", "/var/log/nginx/access.log"]).ok();
        for client in ["192.0.2.2 - -", "fd00:192:0:2::2 - -"] {
            assert!(log.contains(client), "no {client} in {log}");
        }

        // The database by its name, from a neighbour's container on the network and through the host's port.
        let ask = |place: &str, question: &str| {
            let from = [
                "run",
                "--rm",
                "--network",
                "shop",
                "servers",
                "psql",
                "-h",
                place,
                "-U",
                "postgres",
                "-Atc",
            ];
            host.cli(cli, from.iter().chain(&[question]))
        };
        wait_for("postgres", || (ask("db", "select 1").run().code == 0).then_some(()));
        ask("db", "create table goods (name text); insert into goods select 'x' || n from generate_series(1, 20000) n").ok();
        assert_eq!(ask("db", "select count(*) from goods").ok(), "20000");
        let client = host
            .cli(
                cli,
                ["exec", "web", "psql", "-h", "db", "-U", "postgres", "-Atc", "select inet_client_addr()"],
            )
            .ok();
        let format = "{{.NetworkSettings.Networks.shop.IPAddress}} {{.NetworkSettings.Networks.shop.GlobalIPv6Address}}";
        let own = host.cli(cli, ["inspect", "-f", format, "web"]).ok();
        assert!(own.split(' ').any(|address| address == client), "{client} is not one of {own}");
        // All that a big answer takes comes through the host's port as well.
        let gateway =
            host.cli(cli, ["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "shop"]).ok();
        let all = ask(&gateway, "select name from goods").ok();
        assert_eq!(all.lines().count(), 20000);
        host.cli(cli, ["rm", "-f", "web", "db"]).ok();
        host.cli(cli, ["network", "rm", "shop"]).ok();
    }
}

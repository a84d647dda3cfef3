//! Which servers are taken for who they should be: those psql takes, by every kind of certificate that servers are set up with.

use crate::support::{Cluster, Installation, directory, file, output, postgres};
use std::{fs, net::TcpListener, path::Path, process::Command};

/// What psql says of a connection: `t` where it is let in.
fn peer(connection: &str, home: &Path) -> bool {
    let mut psql = Command::new(postgres("psql"));
    psql.args(["-XAtqc", "select true", "-d", connection]).env("HOME", home);
    psql.output().unwrap().stdout == b"t\n"
}

/// Both kinds of connection that `check` makes, for queries and for replication.
fn ours(installation: &Installation, home: &Path) -> (bool, String) {
    let done = installation.command(&["check"]).env("HOME", home).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    let (queries, replication) = (said.contains("answers as postgres"), said.contains("replication works"));
    assert_eq!(queries, replication, "{said}");
    (queries, said)
}

#[test]
fn servers_are_accepted_and_rejected_as_psql_does() {
    let directory = directory();
    let place = directory.path();
    output(Command::new(file("tests/tools/certificates.sh")).arg(place));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cluster = Cluster::start(place);
    let installation = Installation::new(place, "");
    // A home with libpq's own file of root certificates, and one without.
    let home = place.join("home");
    fs::create_dir_all(home.join(".postgresql")).unwrap();
    fs::copy(place.join("ca.pem"), home.join(".postgresql/root.crt")).unwrap();

    let (mut taken, mut refused) = (0, 0);
    for (certificate, key, protocol) in [
        ("cert.pem", "key.pem", "TLSv1.3"),
        ("own.pem", "own.key", "TLSv1.3"),
        ("own.pem", "own.key", "TLSv1.2"),
        ("plain.pem", "plain.key", "TLSv1.3"),
        ("plain.pem", "plain.key", "TLSv1.2"),
    ] {
        cluster.down();
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{0}'\nfsync = off\nssl = on\n\
             ssl_cert_file = '{0}/{certificate}'\nssl_key_file = '{0}/{key}'\nssl_max_protocol_version = '{protocol}'\n",
            place.display()
        );
        fs::write(cluster.data.join("postgresql.auto.conf"), settings).unwrap();
        cluster.up();
        for (host, mode, root) in [
            ("localhost", "require", ""),
            ("localhost", "require", "ca.pem"),
            ("localhost", "require", "own.pem"),
            ("localhost", "verify-ca", "ca.pem"),
            ("localhost", "verify-ca", "own.pem"),
            ("127.0.0.1", "verify-ca", "ca.pem"),
            ("localhost", "verify-full", "ca.pem"),
            ("localhost", "verify-full", "own.pem"),
            ("127.0.0.1", "verify-full", "ca.pem"),
            ("127.0.0.1", "verify-full", "own.pem"),
        ] {
            for home in [&home, place] {
                let root =
                    if root.is_empty() { String::new() } else { format!(" sslrootcert={}/{root}", place.display()) };
                let connection = format!("host={host} port={port} user=postgres dbname=postgres sslmode={mode}{root}");
                installation.configure(&format!("[clusters.main]\nconnection = \"{connection}\"\n"));
                let expected = peer(&connection, home);
                let (found, said) = ours(&installation, home);
                assert_eq!(found, expected, "{certificate} {protocol} {connection} {}: {said}", home.display());
                if found {
                    taken += 1
                } else {
                    refused += 1
                }
                assert!(found || said.contains("the server's certificate is rejected"), "{said}");
            }
        }
    }
    assert!(taken > 30 && refused > 30, "{taken} taken, {refused} refused");
}

#[test]
fn who_may_not_sign_vouches_for_nobody() {
    let directory = directory();
    let place = directory.path();
    output(Command::new("bash").arg(file("tests/tools/certificates.sh")).arg(place).arg("odd"));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cluster = Cluster::start(place);
    let installation = Installation::new(place, "");
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    for (certificate, roots) in [
        ("by-no-authority", &["no-authority"][..]),
        ("plain-by-no-authority", &["no-authority"]),
        ("by-no-signing", &["no-signing"]),
        ("plain-by-no-signing", &["no-signing"]),
        ("by-for-clients", &["for-clients"]),
        ("plain-by-for-clients", &["for-clients"]),
        ("by-short", &["short"]),
        ("plain-by-short", &["short"]),
        ("by-middle", &["ca", "middle"]),
        ("by-middle-no-signing", &["ca"]),
        ("by-middle-no-authority", &["ca"]),
        ("by-middle-short", &["short"]),
        ("own-for-clients", &["own-for-clients"]),
        ("leaf-for-clients", &["ca"]),
        ("leaf-for-lists", &["ca"]),
        ("leaf-authority", &["ca"]),
        ("elsewhere", &["ca"]),
        ("plain-elsewhere", &["ca"]),
        ("two-names", &["ca"]),
        ("address-alone", &["ca"]),
        ("mail-alone", &["ca"]),
    ] {
        cluster.down();
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{0}'\nfsync = off\nssl = on\n\
             ssl_cert_file = '{0}/{certificate}.pem'\nssl_key_file = '{0}/{certificate}.key'\n",
            place.display()
        );
        fs::write(cluster.data.join("postgresql.auto.conf"), settings).unwrap();
        cluster.up();
        for root in roots {
            let connection = format!(
                "host=localhost port={port} user=postgres dbname=postgres sslmode=verify-full sslrootcert={}/{root}.pem",
                place.display()
            );
            installation.configure(&format!("[clusters.main]\nconnection = \"{connection}\"\n"));
            let expected = peer(&connection, place);
            let (found, said) = ours(&installation, place);
            assert_eq!(found, expected, "{certificate} by {root}: {said}");
            if found { accepted.push(certificate) } else { refused.push(certificate) }
        }
    }
    assert!(accepted.len() >= 5 && refused.len() >= 12, "accepted {accepted:?}, refused {refused:?}");
}

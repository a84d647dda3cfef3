//! Replication and queries over TCP with TLS and SCRAM, and what a wrong password looks like.

use crate::support::{Cluster, Installation, directory, file, output, postgres, seconds, wait_until};
use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, process::Command};

#[test]
fn backup_over_tcp_with_tls_and_scram() {
    let directory = directory();
    output(Command::new(file("tests/tools/certificates.sh")).arg(directory.path()));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cluster = Cluster::start(directory.path());
    cluster.sql("set password_encryption = 'scram-sha-256'; create role bosun login superuser password 'very geheim'");
    cluster.down();
    let hba = "local all all trust\nlocal replication all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\nhostssl replication all 127.0.0.1/32 scram-sha-256\n";
    fs::write(cluster.data.join("pg_hba.conf"), hba).unwrap();
    let settings = format!(
        "listen_addresses = 'localhost'\nport = {port}\nunix_socket_directories = '{0}'\nssl = on\nssl_cert_file = '{0}/cert.pem'\nssl_key_file = '{0}/key.pem'\nfsync = off\n",
        directory.path().display()
    );
    fs::write(cluster.data.join("postgresql.auto.conf"), settings).unwrap();
    cluster.up();

    let secret = directory.path().join("secret");
    fs::write(&secret, "very geheim\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let configuration = |mode: &str, root: &str| {
        format!(
            "[clusters.main]\nconnection = \"host=localhost port={port} user=bosun dbname=postgres sslmode={mode} {root}\"\n\
             password-file = \"{{dir}}/secret\"\n[repositories.local]\ntype = \"local\"\npath = \"{{dir}}/repo\"\n\
             [jobs.full]\nkind = \"backup.physical\"\nsource = \"stream\"\nrepositories = [\"local\"]\n"
        )
    };
    let root = format!("sslrootcert={}/ca.pem", directory.path().display());
    let installation = Installation::new(directory.path(), &configuration("verify-full", &root));
    installation.run(&["backup", "create"]);
    installation.run(&["backup", "verify"]);
    // Encrypted, but by nobody known: refused where it is to be checked, taken where it is not.
    installation.configure(&configuration("verify-full", ""));
    let done = installation.try_run(&["backup", "create"]);
    assert!(!done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    installation.configure(&configuration("require", ""));
    installation.run(&["backup", "create"]);

    // What cannot be kept is refused, wherever it is written.
    installation.configure(&configuration("require", "channel_binding=prefer"));
    installation.run(&["backup", "list"]);
    installation.configure(&configuration("require", "channel_binding=require"));
    let done = installation.try_run(&["backup", "create"]);
    let words = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.code() == Some(78) && words.contains("sslmode=verify-full with sslrootcert"), "{words}");

    // A password file that others can read is none, for libpq and for us: queries and replication both say so.
    let pgpass = directory.path().join("pgpass");
    fs::write(&pgpass, "localhost:*:*:bosun:very geheim\n").unwrap();
    let passfile = format!("passfile={}", pgpass.display());
    installation.configure(&configuration("require", &passfile).replace("password-file = \"{dir}/secret\"\n", ""));
    fs::set_permissions(&pgpass, fs::Permissions::from_mode(0o644)).unwrap();
    let ignored = format!("mode 0644 gives others access; chmod 0600 {}", pgpass.display());
    for command in [&["backup", "create"][..], &["check"]] {
        let done = installation.try_run(command);
        let words = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(words.contains(&ignored) && words.contains("password authentication failed"), "{words}");
    }
    let hba_of_queries = hba.replacen("127.0.0.1/32 scram-sha-256", "127.0.0.1/32 trust", 1);
    fs::write(cluster.data.join("pg_hba.conf"), hba_of_queries).unwrap();
    let reload = |connection: &str| {
        let statement = "select pg_reload_conf()";
        output(Command::new(postgres("psql")).arg("-d").arg(connection).args(["-XAtqc", statement]));
    };
    let socket = format!("host={} port={port} user=postgres dbname=postgres", directory.path().display());
    reload(&socket);
    wait_until("replication alone asks for a password", seconds(10), || {
        let done = installation.try_run(&["backup", "create"]);
        let words = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(!done.status.success() && words.contains(&ignored), "{words}");
        words.contains("the server asks for a password, but none is")
    });
    fs::set_permissions(&pgpass, fs::Permissions::from_mode(0o600)).unwrap();
    installation.run(&["backup", "create"]);
    fs::write(cluster.data.join("pg_hba.conf"), hba).unwrap();
    reload(&socket);
    installation.configure(&configuration("require", ""));

    // C25: a wrong password is named as such, and shown nowhere.
    fs::write(&secret, "quite falsch\n").unwrap();
    let mut words = String::new();
    wait_until("the password is asked for again", seconds(10), || {
        let done = installation.try_run(&["-vv", "backup", "create"]);
        words = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        !done.status.success() && words.contains("password authentication failed")
    });
    assert!(!words.contains("falsch") && !words.contains("geheim"), "{words}");
    assert_eq!(
        installation.journal("select count(*) from runs where error like '%falsch%' or summary like '%falsch%'"),
        "0"
    );
}

#[test]
fn the_options_of_a_connection_string_reach_every_session_and_go_no_further_than_our_own_settings() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    cluster.sql("create table seen (work_mem text, path text)");
    let configuration = |options: &str| {
        format!(
            "[clusters.main]\nconnection = \"{} options='{options}'\"\n\
             [jobs.seen]\nkind = \"sql\"\n\
             statement = \"insert into seen values (current_setting('work_mem'), current_setting('search_path'))\"\n",
            cluster.connection()
        )
    };
    let installation = Installation::new(directory.path(), &configuration("-c work_mem=7MB --search-path=public"));
    installation.run(&["job", "run", "seen"]);
    assert_eq!(cluster.sql("select * from seen"), "7MB|public");
    // Names without a schema are PostgreSQL's in our own sessions, whatever is asked for.
    let said = String::from_utf8_lossy(&installation.try_run(&["check"]).stdout).into_owned();
    assert!(said.contains("answers as postgres") && said.contains("replication works"), "{said}");
    installation.configure(&configuration("-x 3"));
    let done = installation.try_run(&["check"]);
    let words = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(words.contains("options: \"-x\" is not of the form"), "{words}");
}
